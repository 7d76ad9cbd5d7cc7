//! The shape of a cron schedule: five fields, or a name such as `@daily` (github.com/robfig/cron, standard parser). Only the shape:
//! when the next time is belongs to the controller.

use api::{FieldErrors, Path};

const NAMES: &[&str] = &["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

struct Field {
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { min: 0, max: 59, names: &[] },
    Field { min: 0, max: 23, names: &[] },
    Field { min: 1, max: 31, names: &[] },
    Field { min: 1, max: 12, names: MONTHS },
    Field { min: 0, max: 6, names: DAYS },
];

pub fn validate(errors: &mut FieldErrors, path: &Path, schedule: &str, has_time_zone: bool) {
    if schedule.contains("TZ") {
        let detail = if has_time_zone {
            "cannot use both timeZone field and TZ or CRON_TZ in schedule"
        } else {
            "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        };
        errors.invalid(path, schedule, detail);
    } else if let Err(problem) = parse(schedule) {
        errors.invalid(path, schedule, &problem);
    }
}

fn parse(schedule: &str) -> Result<(), String> {
    if let Some(interval) = schedule.strip_prefix("@every ") {
        let plain = interval.chars().all(|c| c.is_ascii_digit() || "hmsuµn.".contains(c));
        let shaped = plain && interval.starts_with(|c: char| c.is_ascii_digit()) && interval.ends_with(['h', 'm', 's']);
        return if shaped { Ok(()) } else { Err(format!("failed to parse duration {schedule}")) };
    }
    if schedule.starts_with('@') {
        return if NAMES.contains(&schedule) { Ok(()) } else { Err(format!("unrecognized descriptor: {schedule}")) };
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    fields.iter().zip(&FIELDS).try_for_each(|(text, field)| text.split(',').try_for_each(|part| range(part, field)))
}

fn range(text: &str, field: &Field) -> Result<(), String> {
    let (span, step) = text.split_once('/').map_or((text, None), |(span, step)| (span, Some(step)));
    if let Some(step) = step {
        match step.parse::<u32>() {
            Ok(0) => return Err(format!("step of range should be a positive number: {text}")),
            Ok(_) => {}
            Err(_) => return Err(format!("failed to parse int from {step}")),
        }
    }
    if matches!(span, "*" | "?") {
        return Ok(());
    }
    let (start, end) = span.split_once('-').unwrap_or((span, span));
    let (start, end) = (value(start, field)?, value(end, field)?);
    if start < field.min {
        return Err(format!("beginning of range ({start}) below minimum ({}): {text}", field.min));
    }
    if end > field.max {
        return Err(format!("end of range ({end}) above maximum ({}): {text}", field.max));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {text}"));
    }
    Ok(())
}

fn value(text: &str, field: &Field) -> Result<u32, String> {
    let lower = text.to_lowercase();
    if let Some(index) = field.names.iter().position(|name| *name == lower) {
        return Ok(u32::try_from(index).unwrap_or_default() + field.min);
    }
    text.parse().map_err(|_| format!("failed to parse int from {text}"))
}

pub fn validate_time_zone(errors: &mut FieldErrors, path: &Path, zone: Option<&str>) {
    let Some(zone) = zone else { return };
    if zone.is_empty() {
        errors.invalid(path, zone, "timeZone must be nil or non-empty string");
    } else if zone.eq_ignore_ascii_case("local") {
        errors.invalid(path, zone, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones");
    } else if !zone.bytes().all(|b| b.is_ascii_alphanumeric() || b"_/+-.".contains(&b)) || jiff::tz::TimeZone::get(zone).is_err() {
        errors.invalid(path, zone, &format!("unknown time zone {zone}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules() {
        for good in ["* * * * *", "*/5 0-12 1,15 jan-mar MON", "@daily", "@every 1h30m", "0 0 ? * 6"] {
            assert_eq!(parse(good), Ok(()), "{good}");
        }
        for bad in
            ["", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "*/0 * * * *", "@never", "a * * * *", "5-1 * * * *", "* * * * 7"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
