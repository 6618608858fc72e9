//! Families of metrics as they are written.

use std::{fmt, sync::atomic::Ordering::Relaxed, time::Duration};

use prometheus_client::{
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
};

use super::Histogram;

/// A sample of a family: its labels and its value.
pub(super) type Sample<'a, const N: usize, T> = ([(&'a str, &'a str); N], T);

pub(super) fn counters<const N: usize>(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    samples: &[Sample<'_, N, u64>],
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in samples {
        family
            .encode_family(labels)?
            .encode_counter::<NoLabelSet, u64, u64>(value, None)?;
    }
    Ok(())
}

pub(super) fn gauges<const N: usize>(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    samples: &[Sample<'_, N, i64>],
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in samples {
        match N {
            0 => family.encode_gauge(value)?,
            _ => family.encode_family(labels)?.encode_gauge(value)?,
        }
    }
    Ok(())
}

/// One histogram of all the parts together, which have the same bounds.
pub(super) fn histogram(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    parts: &[&Histogram],
) -> fmt::Result {
    let count = |bucket: usize| {
        parts
            .iter()
            .map(|part| part.buckets[bucket].load(Relaxed))
            .sum::<u64>()
    };
    let bounds = parts[0].bounds.iter().copied().chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = bounds
        .enumerate()
        .map(|(bucket, bound)| (bound, count(bucket)))
        .collect();
    let micros = parts.iter().map(|part| part.micros.load(Relaxed)).sum();
    let sum = Duration::from_micros(micros).as_secs_f64();
    let total = buckets.iter().map(|(_, count)| count).sum();
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    family.encode_histogram::<NoLabelSet>(sum, total, &buckets, None)
}
