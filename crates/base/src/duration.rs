//! Go's notation of durations, which flags, configuration files and messages of Kubernetes and etcd use: `1h30m`, `1.5s`, `300ms`.

use std::time::Duration;

/// Reads a duration as Go's `time.ParseDuration` does, with its messages; negative ones are refused.
pub fn parse(text: &str) -> Result<Duration, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() || text.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(|| match rest.len() {
            0 => invalid(),
            _ => format!("time: missing unit in duration {text:?}"),
        })?;
        let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            other => return Err(format!("time: unknown unit {other:?} in duration {text:?}")),
        };
        seconds += number * unit;
        rest = &rest[end..];
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| invalid())
}

/// Writes a duration as Go's `time.Duration.String` does: `731.814µs`, `1.5s`, `1m0s`.
pub fn format(time: Duration) -> String {
    let nanos = time.as_nanos();
    match nanos {
        0 => "0s".into(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(nanos, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(nanos, 1_000_000)),
        _ => {
            let (minutes, rest) = (nanos / 60_000_000_000, nanos % 60_000_000_000);
            let seconds = fraction(rest, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "the parts are below 60,000,000,000")]
fn fraction(nanos: u128, unit: u128) -> f64 {
    nanos as f64 / unit as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        let check = |text: &str, expected: Result<u64, &str>| {
            assert_eq!(parse(text), expected.map(Duration::from_millis).map_err(str::to_owned), "{text}");
        };
        check("10s", Ok(10_000));
        check("1h30m", Ok(5_400_000));
        check("1.5h", Ok(5_400_000));
        check("300ms", Ok(300));
        check("0", Ok(0));
        check("", Err("time: invalid duration \"\""));
        check("x", Err("time: invalid duration \"x\""));
        check("-1s", Err("time: invalid duration \"-1s\""));
        check("5", Err("time: missing unit in duration \"5\""));
        check("1d", Err("time: unknown unit \"d\" in duration \"1d\""));
        check("1e400h", Err("time: unknown unit \"e\" in duration \"1e400h\""));
        assert!(parse(&format!("{}h", "9".repeat(300))).is_err());
    }

    #[test]
    fn writes_what_go_writes() {
        let check = |nanos: u64, expected: &str| assert_eq!(format(Duration::from_nanos(nanos)), expected);
        check(0, "0s");
        check(999, "999ns");
        check(731_814, "731.814µs");
        check(1_100_000, "1.1ms");
        check(10_000_000_000, "10s");
        check(60_000_000_000, "1m0s");
        check(3_600_000_000_000, "1h0m0s");
        check(3_723_500_000_000, "1h2m3.5s");
    }
}
