//! How points in time are written: in file names by the user's clock, in pictures and reports by
//! UTC, so that one capture gives the same bytes wherever it is looked at.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};

const FILE_STAMP: &str = "%Y%m%d%H%M%S";

/// `YYYYMMDDhhmmss` in local time, as mprof names its files.
pub fn file_stamp() -> String {
    Zoned::now().strftime(FILE_STAMP).to_string()
}

/// The stamp of one second later; None for what is no stamp.
pub fn next_file_stamp(stamp: &str) -> Option<String> {
    let time = DateTime::strptime(FILE_STAMP, stamp).ok()?;
    let next = time.checked_add(Span::new().seconds(1)).ok()?;
    Some(next.strftime(FILE_STAMP).to_string())
}

/// `YYYY-MM-DD hh:mm:ss UTC`. A time that no calendar has is shown as it is.
pub fn utc(epoch_s: f64) -> String {
    match Timestamp::from_second(epoch_s as i64) {
        Ok(time) => time
            .to_zoned(TimeZone::UTC)
            .strftime("%Y-%m-%d %H:%M:%S UTC")
            .to_string(),
        Err(_) => format!("{epoch_s} s after the epoch"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_fourteen_digits() {
        let stamp = file_stamp();
        assert_eq!(stamp.len(), 14, "{stamp}");
        assert!(stamp.bytes().all(|byte| byte.is_ascii_digit()), "{stamp}");
    }

    #[test]
    fn a_second_later_may_be_next_year() {
        let next = next_file_stamp("20251231235959");
        assert_eq!(next.as_deref(), Some("20260101000000"));
        assert_eq!(next_file_stamp("run"), None);
    }

    #[test]
    fn utc_is_the_calendars_and_a_wild_time_does_no_harm() {
        assert_eq!(utc(1_700_000_000.9), "2023-11-14 22:13:20 UTC");
        assert!(utc(f64::MAX).ends_with("after the epoch"));
    }
}
