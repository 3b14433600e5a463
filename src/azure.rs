//! Azure mechanics that belong to no one service: tokens and signatures.

mod blob_call;
pub mod blobs;
pub mod credential;
pub mod sas;
pub mod shared_key;
mod signature;
pub mod storage;
pub mod workspace_key;

use crate::domain::timestamp::Timestamp;

/// `Mon, 04 Apr 2016 08:00:00 GMT`, the form `x-ms-date` takes and signatures
/// cover (RFC 1123; always GMT).
pub fn http_date(at: Timestamp) -> String {
    let at = at.to_utc();
    format!(
        "{:.3}, {:02} {:.3} {:04} {:02}:{:02}:{:02} GMT",
        at.weekday(),
        at.day(),
        at.month(),
        at.year(),
        at.hour(),
        at.minute(),
        at.second()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_as_signatures_cover_it() {
        for (at, text) in [
            ("2016-04-04T08:00:00Z", "Mon, 04 Apr 2016 08:00:00 GMT"),
            ("2026-11-21T23:59:59.9999999Z", "Sat, 21 Nov 2026 23:59:59 GMT"),
        ] {
            assert_eq!(http_date(at.parse().unwrap()), text);
        }
    }
}
