//! The clouds' list prices, in one place. Look them up again before you budget with them.

/// Where the prices come from, and as of when.
pub const SOURCE: &str = "List prices in US dollars without tax, as read on 2026-11-25 in stored copies of the pages: \
     check them before you budget. R2: <https://developers.cloudflare.com/r2/pricing/>. B2's requests: \
     <https://www.backblaze.com/b2/b2-transactions-price.html>; its storage as others quote it, April 2026: \
     <https://leanopstech.com/blog/backblaze-b2-pricing-2026/>.";

/// What one month asks of a cloud.
#[derive(Debug, Clone, Copy, Default)]
pub struct Month {
    /// Bytes held all month.
    pub bytes: f64,
    /// PUTs.
    pub puts: f64,
    /// HEADs and GETs.
    pub reads: f64,
    /// LISTs, of objects or of versions.
    pub lists: f64,
}

/// Days of a month.
pub const DAYS: f64 = 30.0;

/// R2's price of a month: every unit begun is paid, deletes and egress are free.
#[must_use]
pub fn r2(month: &Month) -> f64 {
    let units = |used: f64, unit: f64, free: f64| ((used / unit).ceil() - free).max(0.0);
    units(month.bytes, 1e9, 10.0) * 0.015
        + units(month.puts + month.lists, 1e6, 1.0) * 4.50
        + units(month.reads, 1e6, 10.0) * 0.36
}

/// B2's price of a month: PUTs and deletes are free, the other requests beyond 2,500 a day.
#[must_use]
pub fn b2(month: &Month) -> f64 {
    let beyond = |used: f64| (used - 2_500.0 * DAYS).max(0.0);
    (month.bytes - 10e9).max(0.0) / 1e12 * 6.0
        + beyond(month.reads) / 10_000.0 * 0.004
        + beyond(month.lists) / 1_000.0 * 0.004
}

/// The prices in words, for the reader.
pub const WORDS: &str = "R2: $0.015 per GB-month (10 GB free), class A (PUT, LIST) $4.50 per million (1 million free), \
     class B (GET, HEAD) $0.36 per million (10 million free), DELETE and egress free, units rounded up. \
     B2: $6 per TB-month (10 GB free), class A (PUT, DELETE) free, class B (GET, HEAD) $0.004 per 10,000, \
     class C (LIST) $0.004 per 1,000, of each 2,500 a day free.";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(found: f64, awaited: f64) {
        assert!((found - awaited).abs() < 1e-6, "{found}, awaited {awaited}");
    }

    #[test]
    fn nothing_costs_nothing() {
        check(r2(&Month::default()), 0.0);
        check(b2(&Month::default()), 0.0);
    }

    #[test]
    fn the_example_on_cloudflares_page_costs_what_it_says() {
        let stored = Month {
            bytes: 1e12,
            puts: 1_000.0,
            reads: 1e6,
            lists: 0.0,
        };
        check(r2(&stored), 14.85);
        check(b2(&stored), 5.94 + 0.37);
    }

    #[test]
    fn r2_is_paid_by_units_begun() {
        let begun = Month {
            puts: 600_000.0,
            lists: 400_001.0,
            ..Month::default()
        };
        check(r2(&begun), 4.5);
    }

    #[test]
    fn b2_is_paid_beyond_each_days_free_requests() {
        let asked = Month {
            reads: 85_000.0,
            lists: 76_000.0,
            ..Month::default()
        };
        check(b2(&asked), 0.004 + 0.004);
    }
}
