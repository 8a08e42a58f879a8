//! How evaluations came to their instance.

use std::fmt;

use portcullis_engine::{Engine, InstanceCounts};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Asks the engine at each scrape.
pub struct Instances(pub Engine);

impl Collector for Instances {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let InstanceCounts { idle, restored, made } = self.0.instances();
        let idle = ConstGauge::new(i64::try_from(idle).unwrap_or(i64::MAX));
        idle.encode(encoder.encode_descriptor(
            "portcullis_instances_idle",
            "Instances that are ready for a next evaluation",
            None,
            MetricType::Gauge,
        )?)?;
        let mut family = encoder.encode_descriptor(
            "portcullis_instances",
            "Evaluations by how they came to their instance: restored, or made, which costs more",
            None,
            MetricType::Counter,
        )?;
        for (how, count) in [("restored", restored), ("made", made)] {
            ConstCounter::new(count).encode(family.encode_family(&[("how", how)])?)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Instances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Instances").field(&self.0.instances()).finish()
    }
}
