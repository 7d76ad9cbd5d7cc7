//! Quantities: upstream's fixed-point numbers with suffixes (apimachinery/pkg/api/resource). Must never round towards zero.

use std::cmp::Ordering;
use std::fmt;
use std::ops;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

const NANO: i128 = 1_000_000_000;
/// Magnitudes above this are capped, so that sums of many quantities cannot overflow an i128.
const MAX_NANOS: i128 = (i64::MAX as i128) * NANO;
/// More digits than any value below the cap can have: what is longer is capped before its digits are read.
const MAX_EXPONENT: i64 = 64;

/// Why a text is not a quantity, in upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// The family of suffixes a quantity was written with, and is printed with again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `12e6`.
    DecimalExponent,
    /// `12Mi`.
    BinarySi,
    /// `12M`.
    #[default]
    DecimalSi,
}

/// A parsed quantity, exact to 10^-9. `Display` gives the canonical form.
#[derive(Clone, Copy, Debug, Default)]
pub struct Amount {
    nanos: i128,
    format: Format,
}

/// Reads upstream's grammar. Values below 10^-9 are rounded up to it.
pub fn parse(text: &str) -> Result<Amount, QuantityError> {
    let parts = Parts::split(text)?;
    let (base, exponent, format) = interpret(parts.suffix)?;
    let mut nanos = magnitude(parts.whole, parts.fraction, base, exponent);
    let format = if format == Format::BinarySi && nanos > 0 && nanos < NANO { Format::DecimalSi } else { format };
    if parts.negative {
        nanos = -nanos;
    }
    Ok(Amount { nanos, format })
}

struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

impl<'a> Parts<'a> {
    fn split(text: &'a str) -> Result<Self, QuantityError> {
        if text.is_empty() {
            return Err(QuantityError::Format);
        }
        let negative = text.starts_with('-');
        let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (whole, rest) = take_while(rest, |c| c.is_ascii_digit());
        let (fraction, suffix) = match rest.strip_prefix('.') {
            Some(rest) => take_while(rest, |c| c.is_ascii_digit()),
            None => ("", rest),
        };
        let (_, tail) = take_while(suffix, |c| "eEinumkKMGTP".contains(c));
        let tail = tail.strip_prefix(['-', '+']).unwrap_or(tail);
        if !tail.chars().all(|c| c.is_ascii_digit()) || (whole.is_empty() && fraction.is_empty()) {
            return Err(QuantityError::Format);
        }
        Ok(Self { negative, whole: whole.trim_start_matches('0'), fraction, suffix })
    }
}

fn take_while(text: &str, accept: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !accept(c)).unwrap_or(text.len());
    text.split_at(end)
}

/// Base, exponent and family of a suffix.
fn interpret(suffix: &str) -> Result<(u32, i64, Format), QuantityError> {
    let decimal = |exponent| Ok((10, exponent, Format::DecimalSi));
    let binary = |exponent| Ok((2, exponent, Format::BinarySi));
    match suffix {
        "" => decimal(0),
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let digits = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Suffix)?;
            let exponent: i64 = digits.parse().map_err(|_| QuantityError::Suffix)?;
            Ok((10, exponent, Format::DecimalExponent))
        }
    }
}

/// The value in nanos, rounded up, capped.
fn magnitude(whole: &str, fraction: &str, base: u32, exponent: i64) -> i128 {
    let shift = if base == 2 { 0 } else { exponent };
    let mut total: i128 = 0;
    let mut lost = false;
    let digits = whole.bytes().chain(fraction.bytes()).map(|byte| i128::from(byte - b'0'));
    // The decimal place of a digit, in nanos: 9 is ones.
    let first_place = i64::try_from(whole.len()).unwrap_or(i64::MAX).saturating_add(shift).saturating_add(9);
    for (place, digit) in (0..).map(|i| first_place.saturating_sub(1 + i)).zip(digits) {
        if digit == 0 {
            continue;
        }
        if place > MAX_EXPONENT {
            return MAX_NANOS;
        }
        // Binary suffixes multiply afterwards, so that digits down to 2^-60 count: keep 9 more places for them.
        let place = if base == 2 { place + 9 } else { place };
        match u32::try_from(place) {
            Ok(place) => {
                let Some(part) = 10_i128.checked_pow(place).and_then(|power| power.checked_mul(digit)) else { return MAX_NANOS };
                total = total.saturating_add(part);
            }
            Err(_) => lost = true,
        }
    }
    if base == 2 {
        let Some(scaled) = total.checked_mul(1_i128 << exponent.clamp(0, 60)) else { return MAX_NANOS };
        lost |= scaled % NANO != 0;
        total = scaled / NANO;
    }
    (total.saturating_add(i128::from(lost))).min(MAX_NANOS)
}

impl Amount {
    pub fn from_int(value: i64, format: Format) -> Self {
        Self { nanos: i128::from(value) * NANO, format }
    }

    pub fn from_milli(milli: i64, format: Format) -> Self {
        Self { nanos: i128::from(milli) * (NANO / 1000), format }
    }

    /// Whole units, rounded away from zero.
    pub fn value(&self) -> i64 {
        self.scaled(NANO)
    }

    /// Thousandths, rounded away from zero.
    pub fn milli_value(&self) -> i64 {
        self.scaled(NANO / 1000)
    }

    fn scaled(&self, unit: i128) -> i64 {
        let rounded = round_away(self.nanos, unit);
        i64::try_from(rounded).unwrap_or(if rounded < 0 { i64::MIN } else { i64::MAX })
    }

    pub fn as_f64(&self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        match self.nanos.cmp(&0) {
            Ordering::Less => -1,
            Ordering::Equal => 0,
            Ordering::Greater => 1,
        }
    }

    /// Whether it is a whole number.
    pub fn is_integer(&self) -> bool {
        self.nanos % NANO == 0
    }

    /// Rounded up to thousandths, as resource lists are stored (pkg/apis/core/v1/defaults.go).
    #[must_use]
    pub fn round_up_milli(self) -> Self {
        Self { nanos: round_away(self.nanos, NANO / 1000) * (NANO / 1000), ..self }
    }

    pub fn format(&self) -> Format {
        self.format
    }

    /// In canonical form.
    pub fn to_quantity(self) -> Quantity {
        Quantity(self.to_string())
    }
}

fn round_away(nanos: i128, unit: i128) -> i128 {
    let rest = nanos % unit;
    nanos / unit + rest.signum()
}

/// The sum; where the left side is zero the right side's format wins.
impl ops::Add for Amount {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: self.nanos.saturating_add(other.nanos), format }
    }
}

impl ops::Sub for Amount {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl ops::Neg for Amount {
    type Output = Self;

    fn neg(self) -> Self {
        Self { nanos: -self.nanos, ..self }
    }
}

impl ops::AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl ops::SubAssign for Amount {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl std::iter::Sum for Amount {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::default(), ops::Add::add)
    }
}

impl PartialEq for Amount {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Amount {}

impl PartialOrd for Amount {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Amount {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl std::str::FromStr for Amount {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.write_str("0");
        }
        let small = self.nanos.abs() < 1024 * NANO;
        if self.format == Format::BinarySi && !small && self.is_integer() {
            return write_binary(f, self.nanos / NANO);
        }
        let (mut number, mut exponent) = (self.nanos, -9);
        while number % 1000 == 0 && exponent < 18 {
            number /= 1000;
            exponent += 3;
        }
        if self.format == Format::DecimalExponent {
            return if exponent == 0 { write!(f, "{number}") } else { write!(f, "{number}e{exponent}") };
        }
        let suffix = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][usize::try_from(exponent / 3 + 3).unwrap_or(3)];
        write!(f, "{number}{suffix}")
    }
}

fn write_binary(f: &mut fmt::Formatter<'_>, mut number: i128) -> fmt::Result {
    let mut suffixes = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].into_iter();
    let mut suffix = suffixes.next();
    while number % 1024 == 0 {
        let Some(next) = suffixes.next() else { break };
        number /= 1024;
        suffix = Some(next);
    }
    write!(f, "{number}{}", suffix.unwrap_or_default())
}

/// The canonical form of a stored quantity; one that is none stays, for validation to report.
pub fn canonicalize(quantity: &mut Quantity) {
    if let Ok(amount) = parse(&quantity.0) {
        *quantity = amount.to_quantity();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expected: &str) {
        let shown = parse(input).map_or_else(|e| e.to_string(), |amount| amount.to_string());
        assert_eq!(shown, expected, "{input}");
    }

    #[test]
    fn prints_canonically() {
        for (input, expected) in [
            ("0", "0"),
            ("0.0", "0"),
            ("100m", "100m"),
            ("0.1", "100m"),
            ("1.5", "1500m"),
            ("1000m", "1"),
            ("1Gi", "1Gi"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("0.5Ki", "512"),
            ("1e3", "1e3"),
            ("1000e3", "1e6"),
            ("1E", "1E"),
            ("12E6", "12e6"),
            ("1000k", "1M"),
            ("128974848", "128974848"),
            ("129e6", "129e6"),
            ("123Mi", "123Mi"),
            ("0.1m", "100u"),
            ("0.0000000001", "1n"),
            ("-1.5", "-1500m"),
            ("+5", "5"),
            (".5", "500m"),
            ("1.", "1"),
            ("00012", "12"),
            ("8Ei", "9223372036854775807"),
        ] {
            check(input, expected);
        }
    }

    #[test]
    fn refuses_what_upstream_refuses() {
        for input in ["", "1.1.1", "abc1 ", "1 ", " 1", "1x", "1e", "1mm", "1ki", "12e+-3"] {
            assert!(parse(input).is_err(), "{input}");
        }
        assert_eq!(parse("1 "), Err(QuantityError::Format));
        assert_eq!(parse("1mm"), Err(QuantityError::Suffix));
    }

    #[test]
    fn counts() {
        let amount = |text| parse(text).expect("a quantity");
        assert_eq!(amount("1500m").value(), 2);
        assert_eq!(amount("1500m").milli_value(), 1500);
        assert_eq!(amount("1u").milli_value(), 1);
        assert_eq!(amount("-1500m").value(), -2);
        assert_eq!(amount("1Gi").value(), 1 << 30);
        assert_eq!((amount("1Gi") + amount("1G")).to_string(), "2073741824");
        assert_eq!((amount("0") + amount("1Gi")).to_string(), "1Gi");
        assert_eq!((amount("2") - amount("500m")).to_string(), "1500m");
        assert!(amount("1Gi") > amount("1G"));
        assert_eq!(amount("1e999999999").value(), i64::MAX);
        assert_eq!(amount("1e-999999999").to_string(), "1e-9");
    }

    proptest::proptest! {
        #[test]
        fn canonical_form_is_stable(text in "[+-]?[0-9]{0,20}(\\.[0-9]{0,12})?([numkMGTPE]|[KMGTPE]i|e[+-]?[0-9]{1,3})?") {
            if let Ok(amount) = parse(&text) {
                let shown = amount.to_string();
                let again = parse(&shown).expect("canonical forms parse");
                proptest::prop_assert_eq!(again, amount);
                proptest::prop_assert_eq!(again.to_string(), shown);
            }
        }
    }
}
