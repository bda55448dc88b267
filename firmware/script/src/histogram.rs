//! Latencies in buckets about 6 % wide.

use alloc::vec;
use alloc::vec::Vec;

/// Buckets per power of two.
const STEPS: u64 = 16;

/// Counts of values, in buckets that grow with the value.
#[derive(Debug, Clone)]
pub struct Histogram {
    buckets: Vec<u64>,
    total: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: vec![0; (STEPS * 64) as usize],
            total: 0,
            max: 0,
        }
    }
}

impl Histogram {
    /// Counts a value.
    pub fn add(&mut self, value: u64) {
        self.buckets[bucket(value) as usize] += 1;
        self.total += 1;
        self.max = self.max.max(value);
    }

    /// The largest value.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The value that `per_mille` of a thousand values do not exceed, rounded up by at most a bucket's width; 0
    /// without values.
    pub fn quantile(&self, per_mille: u64) -> u64 {
        let rank = (self.total * per_mille).div_ceil(1000).max(1);
        let mut seen = 0;
        for (index, count) in (0..).zip(&self.buckets) {
            seen += count;
            if seen >= rank {
                return upper(index).min(self.max);
            }
        }
        0
    }
}

fn bucket(value: u64) -> u64 {
    if value < STEPS {
        return value;
    }
    let shift = u64::from(value.ilog2()) - 4;
    (shift + 1) * STEPS + ((value >> shift) - STEPS)
}

/// The largest value of a bucket.
fn upper(bucket: u64) -> u64 {
    if bucket < STEPS {
        return bucket;
    }
    let (shift, step) = (bucket / STEPS - 1, bucket % STEPS);
    ((STEPS + step) << shift) + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket() {
        for value in (0..5000).chain([u64::MAX / 2, u64::MAX]) {
            let index = bucket(value);
            assert!(upper(index) >= value, "{value}");
            assert!(index == 0 || upper(index - 1) < value, "{value}");
            assert!((index as usize) < (STEPS * 64) as usize);
        }
    }

    #[test]
    fn quantiles() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(500), 0);
        for value in 1..=1000 {
            histogram.add(value);
        }
        let median = histogram.quantile(500);
        assert!((500..=540).contains(&median), "{median}");
        assert_eq!(histogram.quantile(1000), 1000);
        assert_eq!(histogram.max(), 1000);
    }
}
