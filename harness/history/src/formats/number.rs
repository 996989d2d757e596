//! Numbers of EDN: whole, big, ratio, floating point, decimal. Other spellings that Clojure reads
//! (octal, radix) are refused rather than guessed at; hexadecimal occurs in printed objects.

use smol_str::{SmolStr, format_smolstr};

use super::Value;

/// The number that a token spells; `None` if it spells none.
pub(super) fn number(token: &str) -> Option<Value> {
    let (negative, digits) = match token.as_bytes() {
        [b'-', ..] => (true, &token[1..]),
        [b'+', ..] => (false, &token[1..]),
        _ => (false, token),
    };
    // By far the most are short and plain.
    if digits.len() < 19 && whole(digits) {
        let value = digits.bytes().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
        return Some(Value::Int(if negative { -value } else { value }));
    }
    if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        // `from_str_radix` would take a second sign.
        return hex
            .bytes()
            .all(|b| b.is_ascii_hexdigit())
            .then(|| i64::from_str_radix(hex, 16).ok())?
            .map(|n| Value::Int(if negative { -n } else { n }));
    }
    if let Some((over, under)) = digits.split_once('/') {
        let zero = under.bytes().all(|b| b == b'0');
        return (whole(over) && whole(under) && !zero)
            .then(|| Value::Number(format_smolstr!("{}{over}/{under}", sign(negative))));
    }
    let plain = digits.strip_suffix('N').unwrap_or(digits);
    if whole(plain) {
        return Some(integer(negative, plain));
    }
    if let Some(decimal) = digits.strip_suffix('M') {
        return (whole(decimal) || float(decimal))
            .then(|| Value::Number(format_smolstr!("{}{digits}", sign(negative))));
    }
    if float(digits) {
        let value: f64 = token.parse().ok()?;
        return Some(Value::Number(format_smolstr!("{value:?}")));
    }
    None
}

fn sign(negative: bool) -> &'static str {
    if negative { "-" } else { "" }
}

/// `0`, or digits that don't begin with it.
fn whole(digits: &str) -> bool {
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && (digits.len() == 1 || !digits.starts_with('0'))
}

/// Digits, then a fraction, an exponent or both. Nothing that `f64::from_str` takes besides.
fn float(digits: &str) -> bool {
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (digits, None),
    };
    let (before, after) = match mantissa.split_once('.') {
        Some((before, after)) => (before, Some(after)),
        None => (mantissa, None),
    };
    let all_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    whole(before)
        && after.is_none_or(all_digits)
        && exponent.is_none_or(|e| {
            let e = e.strip_prefix(['+', '-']).unwrap_or(e);
            !e.is_empty() && all_digits(e)
        })
        && (after.is_some() || exponent.is_some())
}

fn integer(negative: bool, digits: &str) -> Value {
    let mut value: i64 = 0;
    for digit in digits.bytes().map(|b| i64::from(b - b'0')) {
        let next =
            value.checked_mul(10).and_then(|v| if negative { v.checked_sub(digit) } else { v.checked_add(digit) });
        match next {
            Some(next) => value = next,
            None => return Value::Number(SmolStr::from(format!("{}{digits}", sign(negative)))),
        }
    }
    Value::Int(value)
}
