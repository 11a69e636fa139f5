//! Which parts of an axis have a row of their own where there are too many of them: those that are the largest in
//! any respect. All others are one row.

use super::weights::Weights;

/// The rows of an axis.
#[derive(Debug, Default)]
pub(super) struct Folding {
    /// Each part's row; empty where every part is its own row.
    row_of: Vec<u32>,
    /// The parts that have rows of their own, in their order. Behind those is the row of all others.
    own: Vec<u32>,
    /// How many parts are in the row of all others.
    others: u32,
}

impl Folding {
    /// At most so many rows, and one of all other parts.
    pub(super) fn new(weights: &[Weights], most: usize) -> Self {
        let used = weights.iter().filter(|weights| weights.any()).count();
        if used <= most {
            return Self::default();
        }
        let kept = largest(weights, most);
        let mut own = Vec::with_capacity(most);
        let mut row_of = vec![most as u32; weights.len()];
        for (part, row) in (0..).zip(&mut row_of).filter(|(part, _)| kept[*part as usize]) {
            *row = own.len() as u32;
            own.push(part);
        }
        Self { row_of, own, others: (used - most) as u32 }
    }

    /// The row of a part.
    #[inline]
    pub(super) fn row(&self, part: u32) -> u32 {
        if self.row_of.is_empty() {
            return part;
        }
        self.row_of.get(part as usize).copied().unwrap_or(self.own.len() as u32)
    }

    /// The part that a row is of; `Err` of the row of all others, with how many they are.
    pub(super) fn part(&self, row: usize) -> Result<usize, u32> {
        if self.row_of.is_empty() {
            return Ok(row);
        }
        self.own.get(row).map(|&part| part as usize).ok_or(self.others)
    }
}

/// Of each part whether it is one of the so many largest: by the greatest of its shares. Of equal ones the first
/// are.
pub(super) fn largest(weights: &[Weights], most: usize) -> Vec<bool> {
    let mut total = Weights::default();
    weights.iter().for_each(|weights| total.add(weights));
    let mut order: Vec<(f64, usize)> =
        weights.iter().map(|weights| weights.share_of(&total)).zip(0..).collect();
    order.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)));
    let mut kept = vec![false; weights.len()];
    for (_, part) in order.into_iter().take(most) {
        kept[part] = weights[part].any();
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_in_any_respect_have_rows_of_their_own() {
        // Bytes, requests, temporaries, what was kept, the most that was live.
        let weights = [
            [10, 1, 0, 0, 10],
            [0, 0, 0, 0, 0],
            [1_000, 1, 0, 0, 5],
            [20, 1, 0, 0, 20],
            [1, 99, 0, 0, 1],
            [1, 1, 0, 1, 1],
        ]
        .map(Weights);
        let rows = |most| {
            let folding = Folding::new(&weights, most);
            let rows: Vec<u32> = (0..7).map(|part| folding.row(part)).collect();
            (rows, (0..=most).map(|row| folding.part(row)).collect::<Vec<_>>())
        };
        assert_eq!(rows(3), (vec![3, 3, 0, 3, 1, 2, 3], vec![Ok(2), Ok(4), Ok(5), Err(2)]));
        assert_eq!(rows(0), (vec![0; 7], vec![Err(5)]));
        // What nobody met needs no row.
        assert_eq!(rows(5).0, [0, 1, 2, 3, 4, 5, 6]);
    }
}
