//! The checksum of what programs and nodes say to each other over HTTP.
//!
//! TCP's own can be fooled, by a faulty router as by our fabric. `POST /rpc` and its answers carry a
//! CRC-32 of their body in a header, and what lacks it or doesn't match is not believed.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// The header: eight hexadecimal digits.
pub(crate) const CHECKSUM: HeaderName = HeaderName::from_static("duress-checksum");

/// The header's value for a body.
pub(crate) fn of(body: &[u8]) -> HeaderValue {
    let digits = format!("{:08x}", crc32fast::hash(body));
    HeaderValue::from_str(&digits).unwrap_or(HeaderValue::from_static("none"))
}

/// Whether a body is the one that the headers were made for.
pub(crate) fn matches(headers: &HeaderMap, body: &[u8]) -> bool {
    headers.get(CHECKSUM).is_some_and(|found| *found == of(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_body_matches() {
        let mut headers = HeaderMap::new();
        assert!(!matches(&headers, b""));
        headers.insert(CHECKSUM, of(b"123456789"));
        // The check value of CRC-32.
        assert_eq!(headers[CHECKSUM], "cbf43926");
        assert!(matches(&headers, b"123456789") && !matches(&headers, b"123456788"));
    }
}
