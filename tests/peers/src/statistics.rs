//! Medians, intervals and geometric means.

use serde::{Deserialize, Serialize};

/// A median and the interval that it lies in.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The interval's lower end.
    pub low: f64,
    /// The median.
    pub median: f64,
    /// The interval's upper end.
    pub high: f64,
}

impl Spread {
    /// The median of some values and, by order statistics, an interval that holds the true median
    /// with a probability of at least 90 %; where there are fewer than five values, their range.
    ///
    /// # Panics
    ///
    /// If there are no values.
    #[must_use]
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let count = sorted.len();
        let middle = count / 2;
        let median = if count.is_multiple_of(2) {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        };
        let out = outside(count);
        Self { low: sorted[out], median, high: sorted[count - 1 - out] }
    }

    /// The spread of the ratios of two rows of values that were measured round by round.
    #[must_use]
    pub fn of_ratios(of: &[f64], to: &[f64]) -> Self {
        let ratios: Vec<_> = of.iter().zip(to).map(|(of, to)| of / to).collect();
        Self::of(&ratios)
    }
}

/// How many values may be left out at each end: the binomial probability that the median lies
/// beyond them stays below 5 % at each end.
fn outside(count: usize) -> usize {
    let mut probability = 0.5f64.powi(count as i32);
    let mut beyond = probability;
    let mut out = 0;
    while out + 1 < count / 2 {
        probability *= (count - out) as f64 / (out + 1) as f64;
        beyond += probability;
        if beyond > 0.05 {
            break;
        }
        out += 1;
    }
    out
}

/// The geometric mean; 1 of nothing.
#[must_use]
pub fn geometric_mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0u32);
    for value in values {
        sum += value.ln();
        count += 1;
    }
    if count == 0 { 1.0 } else { (sum / f64::from(count)).exp() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_median_between_order_statistics() {
        let spread = Spread::of(&[3.0, 1.0, 2.0]);
        assert_eq!((spread.low, spread.median, spread.high), (1.0, 2.0, 3.0));
        // Of 9 values the second and the eighth: 2 · 10/512 < 10 %.
        let nine: Vec<_> = (1..=9).map(f64::from).collect();
        let spread = Spread::of(&nine);
        assert_eq!((spread.low, spread.median, spread.high), (2.0, 5.0, 8.0));
        let spread = Spread::of(&[1.0, 2.0, 3.0, 4.0]);
        assert_eq!((spread.low, spread.median, spread.high), (1.0, 2.5, 4.0));
    }

    #[test]
    fn geometric_means_undo_ratios() {
        assert!((geometric_mean([2.0, 0.5]) - 1.0).abs() < 1e-12);
        assert!((geometric_mean([4.0, 1.0]) - 2.0).abs() < 1e-12);
    }
}
