//! The proleptic Gregorian calendar (ISO 8601), in days since 1970-01-01.

pub(super) const DAY: i64 = 86_400_000;

pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
pub(super) const WEEKDAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

/// Days of a date; month from 1, day from 1.
pub(super) fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March: the leap day is the last of its year.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of a day.
pub(super) fn date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + next, month, day)
}

/// 1 (Monday) to 7.
pub(super) fn weekday(days: i64) -> i64 {
    (days + 3).rem_euclid(7) + 1
}

/// The week-based year and its week (ISO 8601).
pub(super) fn week(days: i64) -> (i64, i64) {
    // A week belongs to the year of its Thursday.
    let thursday = days - weekday(days) + 4;
    let (year, _, _) = date(thursday);
    (year, (thursday - self::days(year, 1, 1)) / 7 + 1)
}

pub(super) fn days_of_month(year: i64, month: i64) -> i64 {
    let (next_year, next) = if month == 12 {
        (year + 1, 1)
    } else {
        (year, month + 1)
    };
    days(next_year, next, 1) - days(year, month, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_days() {
        assert_eq!(days(1970, 1, 1), 0);
        assert_eq!(days(2000, 3, 1), 11_017);
        assert_eq!(date(-1), (1969, 12, 31));
        assert_eq!(weekday(0), 4);
        assert_eq!(week(days(2021, 1, 3)), (2020, 53));
        assert_eq!(week(days(2018, 12, 31)), (2019, 1));
        assert_eq!(days_of_month(2024, 2), 29);
        assert_eq!(days_of_month(1900, 2), 28);
        assert_eq!(days_of_month(2023, 12), 31);
    }

    proptest::proptest! {
        #[test]
        fn dates_come_back(day in -200_000_000_000i64..200_000_000_000) {
            let (y, m, d) = date(day);
            assert_eq!(days(y, m, d), day);
            assert!((1..=12).contains(&m) && (1..=days_of_month(y, m)).contains(&d));
        }
    }
}
