//! A histogram without a lock: prometheus-client's own takes one for every observation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// Counts whole numbers (nanoseconds, fuel) into fixed buckets. Clones share the counts.
#[derive(Clone, Debug)]
pub(crate) struct Histogram(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Inclusive upper bounds, ascending.
    bounds: &'static [u64],
    /// One more than `bounds`: the last is for what is above all of them.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
    /// What one unit is worth in the exported unit, such as 1e-9 for nanoseconds as seconds.
    unit: f64,
}

impl Histogram {
    /// A histogram of whole numbers, exported as `number * unit`.
    pub(crate) fn new(bounds: &'static [u64], unit: f64) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Inner { bounds, counts, sum: AtomicU64::new(0), unit }))
    }

    /// Counts one value.
    pub(crate) fn observe(&self, value: u64) {
        let bucket = self.0.bounds.partition_point(|&bound| bound < value);
        self.0.counts[bucket].fetch_add(1, Relaxed);
        self.0.sum.fetch_add(value, Relaxed);
    }
}

impl EncodeMetric for Histogram {
    // Counts and sums stay far below 2^52, where f64 is exact.
    #[allow(clippy::cast_precision_loss)]
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let inner = &*self.0;
        let bounds = inner.bounds.iter().map(|&bound| bound as f64 * inner.unit).chain([f64::MAX]);
        let buckets: Vec<(f64, u64)> =
            bounds.zip(inner.counts.iter().map(|count| count.load(Relaxed))).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = inner.sum.load(Relaxed) as f64 * inner.unit;
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn a_value_counts_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::new(&[10, 100], 0.1);
        for value in [1, 10, 11, 1_000] {
            histogram.observe(value);
        }
        let mut registry = Registry::default();
        registry.register("h", "help", histogram);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "h_sum 102.2",
            "h_count 4",
            r#"h_bucket{le="1.0"} 2"#,
            r#"h_bucket{le="10.0"} 3"#,
            r#"h_bucket{le="+Inf"} 4"#,
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
