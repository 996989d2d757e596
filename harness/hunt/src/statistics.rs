//! What a number of runs says about the rate of failures: exact binomial bounds.
//!
//! C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits illustrated in the
//! case of the binomial", Biometrika 26 (1934). Without a failure the upper bound is the "rule of
//! three": about 3 / runs.

/// How sure the bounds are.
const CONFIDENCE: f64 = 0.95;

/// With 95 % confidence no more than this share of runs fails, if `failures` of `runs` did: the
/// one-sided upper bound. Without runs nothing is known: 1.
pub fn upper_bound(failures: u64, runs: u64) -> f64 {
    if failures >= runs {
        return 1.0;
    }
    // The rate at which so few failures would be seen in 5 % of all hunts.
    bisect(|rate| at_most(failures, runs, rate) < 1.0 - CONFIDENCE)
}

/// With 95 % confidence at least this share of runs fails: the one-sided lower bound.
pub fn lower_bound(failures: u64, runs: u64) -> f64 {
    if failures == 0 || runs == 0 {
        return 0.0;
    }
    // The rate at which so many failures would be seen in 5 % of all hunts.
    bisect(|rate| at_most(failures - 1, runs, rate) < CONFIDENCE)
}

/// The least rate from which on `reached` holds.
fn bisect(reached: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    // Enough to halve the interval down to the precision of a double.
    for _ in 0..100 {
        let middle = (low + high) / 2.0;
        if reached(middle) { high = middle } else { low = middle }
    }
    high
}

/// The probability of at most `failures` failures in `runs` runs. Takes time linear in `failures`.
fn at_most(failures: u64, runs: u64, rate: f64) -> f64 {
    if rate <= 0.0 {
        return 1.0;
    }
    if rate >= 1.0 {
        return if failures >= runs { 1.0 } else { 0.0 };
    }
    // In logarithms: the single terms are far too small for a double.
    let odds = rate.ln() - (-rate).ln_1p();
    let mut term = runs as f64 * (-rate).ln_1p();
    let mut sum = term;
    for k in 0..failures.min(runs) {
        term += ((runs - k) as f64).ln() - ((k + 1) as f64).ln() + odds;
        let (larger, smaller) = if sum > term { (sum, term) } else { (term, sum) };
        sum = larger + (smaller - larger).exp().ln_1p();
    }
    sum.exp().min(1.0)
}

/// The same in words: `20,000 runs clean: failure rate below 0.015 % at 95 % confidence`.
pub fn in_words(failures: u64, runs: u64) -> String {
    let counted = if runs == 1 { "run" } else { "runs" };
    if runs == 0 {
        return "no run was judged: nothing is known".into();
    }
    let upper = percent(upper_bound(failures, runs));
    if failures == 0 {
        return format!("{} {counted} clean: failure rate below {upper} at 95 % confidence", grouped(runs));
    }
    let lower = percent(lower_bound(failures, runs));
    let rate = percent(failures as f64 / runs as f64);
    format!(
        "{} of {} {counted} failed: {rate}; at 95 % confidence each, not less than {lower} and not more than {upper}",
        grouped(failures),
        grouped(runs)
    )
}

/// A share in per cent, to two significant digits of it or of what is missing to all.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent <= 0.0 || percent >= 100.0 {
        return format!("{percent:.0} %");
    }
    let digits = (1 - percent.min(100.0 - percent).log10().floor() as i32).clamp(0, 12) as usize;
    let text = format!("{percent:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} %")
}

/// A number with a comma between thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-4 * b.max(1e-6)
    }

    #[test]
    fn no_failure_is_the_rule_of_three() {
        for runs in [1, 10, 300, 20_000, 1_000_000_000] {
            let exact = 1.0 - 0.05_f64.powf(1.0 / runs as f64);
            assert!(close(upper_bound(0, runs), exact), "{runs}: {}", upper_bound(0, runs));
        }
        assert!((2.9..3.0).contains(&(upper_bound(0, 1000) * 1000.0)));
    }

    #[test]
    fn bounds_agree_with_direct_sums() {
        // Calculated elsewhere by summing the binomial terms as they stand: 1 of 10, and 5 of 20.
        assert!(close(upper_bound(1, 10), 0.394_163), "{}", upper_bound(1, 10));
        assert!(close(lower_bound(1, 10), 0.005_116), "{}", lower_bound(1, 10));
        assert!(close(upper_bound(5, 20), 0.455_582), "{}", upper_bound(5, 20));
        assert!(close(lower_bound(5, 20), 0.104_081), "{}", lower_bound(5, 20));
        assert_eq!((lower_bound(0, 10), upper_bound(10, 10), upper_bound(0, 0)), (0.0, 1.0, 1.0));
    }

    #[test]
    fn many_failures_do_not_underflow() {
        let (low, high) = (lower_bound(50_000, 100_000), upper_bound(50_000, 100_000));
        assert!(low > 0.497 && low < 0.5 && high > 0.5 && high < 0.503, "{low} {high}");
    }

    #[test]
    fn words() {
        assert_eq!(in_words(0, 20_000), "20,000 runs clean: failure rate below 0.015 % at 95 % confidence");
        assert_eq!(in_words(0, 0), "no run was judged: nothing is known");
        assert!(in_words(3, 1000).starts_with("3 of 1,000 runs failed: 0.3 %; "), "{}", in_words(3, 1000));
        assert_eq!(percent(1.0), "100 %");
        assert_eq!(
            (percent(0.997_8), percent(0.5), percent(0.000_15)),
            ("99.78 %".into(), "50 %".into(), "0.015 %".into())
        );
        assert_eq!(grouped(1_234_567), "1,234,567");
    }
}
