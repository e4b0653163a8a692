//! Numbers as popular as keys of services are.

use crate::payload::Random;

/// Draws numbers below a count: the one at place `n` is drawn in proportion to `1 / n^skew`.
pub(crate) struct Zipf {
    /// The chance of each number and all before it, times the last one.
    upto: Vec<f64>,
}

impl Zipf {
    pub(crate) fn new(count: usize, skew: f64) -> Self {
        let mut sum = 0.0;
        let mut place = 0.0_f64;
        let upto = (0..count).map(|_| {
            place += 1.0;
            sum += place.powf(skew).recip();
            sum
        });
        Self { upto: upto.collect() }
    }

    pub(crate) fn draw(&self, random: &mut Random) -> usize {
        let all = self.upto.last().copied().unwrap_or_default();
        let drawn = random.fraction() * all;
        self.upto.partition_point(|upto| *upto <= drawn).min(self.upto.len().saturating_sub(1))
    }

    /// `length` numbers, scattered: neighbours are not equally popular.
    pub(crate) fn order(&self, length: usize, random: &mut Random) -> Vec<u32> {
        let mut places: Vec<u32> =
            (0..u32::try_from(self.upto.len()).unwrap_or(u32::MAX)).collect();
        // The same scattering for every order: one number is one key.
        let mut same = Random::from_seed(7);
        for at in (1..places.len()).rev() {
            places.swap(at, same.below(at + 1));
        }
        (0..length).map(|_| places[self.draw(random)]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_drawn_as_often_as_the_law_says() {
        let zipf = Zipf::new(1000, 0.99);
        let mut random = Random::from_seed(1);
        let mut counts = [0_u32; 2];
        for _ in 0..100_000 {
            if let Some(count) = counts.get_mut(zipf.draw(&mut random)) {
                *count += 1;
            }
        }
        // 1 / H(1000, 0.99) = 0.1305.
        assert!((12_600..13_500).contains(&counts[0]), "{counts:?}");
        assert!((6_200..7_000).contains(&counts[1]), "{counts:?}");
    }

    #[test]
    fn orders_name_the_same_keys() {
        let zipf = Zipf::new(100, 1.2);
        let most = |seed| {
            let order = zipf.order(10_000, &mut Random::from_seed(seed));
            let mut counts = [0_u32; 100];
            for at in order {
                counts[usize::try_from(at).unwrap()] += 1;
            }
            counts.iter().enumerate().max_by_key(|(_, count)| **count).unwrap().0
        };
        assert_eq!(most(1), most(2));
    }
}
