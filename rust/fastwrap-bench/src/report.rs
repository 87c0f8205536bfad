//! What a run has shown, as numbers with names.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::prompt;
use crate::settings::Settings;
use crate::slice::{Slice, Times};
use crate::statistics::{Estimate, Series, estimate, paired};

type TimesOf = fn(&Slice) -> &Times;

/// What is timed: how its metrics' names begin, and where its times are.
const TIMED: [(&str, TimesOf); 4] = [
    ("", |slice| &slice.latency),
    ("ttft_", |slice| &slice.ttft),
    ("icl_", |slice| &slice.icl),
    ("transit_", |slice| &slice.transit),
];
/// The quantiles that are reported.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)];

type Number = fn(&Slice) -> Option<f64>;

/// What is counted in a slice.
const RATES: [(&str, Number); 3] = [
    ("requests_per_s", |slice| per(slice.requests as f64, slice.elapsed_ns as f64 / 1e9)),
    ("streams_per_s", |slice| {
        let streams = if slice.ttft.count() > 0 { slice.requests } else { return None };
        per(streams as f64, slice.elapsed_ns as f64 / 1e9)
    }),
    ("chunks_per_s", |slice| {
        if slice.chunks == 0 {
            None
        } else {
            per(slice.chunks as f64, slice.elapsed_ns as f64 / 1e9)
        }
    }),
];
const COSTS: [(&str, Number); 2] = [
    ("cpu_us_per_request", |slice| per(slice.cpu_ns? as f64 / 1e3, slice.requests as f64)),
    ("cpu_us_per_chunk", |slice| per(slice.cpu_ns? as f64 / 1e3, slice.chunks as f64)),
];

/// With fewer streams open, what a process takes for itself drowns what they take.
const MIN_OPEN: u64 = 100;

fn per(amount: f64, of: f64) -> Option<f64> {
    (of > 0.0).then(|| amount / of)
}

/// The names of all metrics, in the order of the report.
#[must_use]
pub fn metric_names() -> Vec<String> {
    let mut names = Vec::new();
    for (stem, _) in TIMED {
        for (quantile, _) in QUANTILES {
            names.push(format!("{stem}{quantile}_us"));
            names.push(format!("{stem}{quantile}_ratio"));
            names.push(format!("added_{stem}{quantile}_us"));
            names.push(format!("added_{stem}{quantile}_ratio"));
        }
    }
    for (name, _) in RATES.iter().chain(&COSTS) {
        names.push((*name).to_owned());
        names.push(format!("{name}_ratio"));
    }
    let single = [
        "cpu_cores",
        "generator_cpu_cores",
        "rss_mib",
        "rss_per_stream_kib",
        "late_p99_us",
        "requests",
        "errors",
        "error_percent",
    ];
    names.extend(single.map(str::to_owned));
    names
}

/// What a run has shown.
#[derive(Debug)]
pub struct Report {
    pub(crate) settings: Settings,
    pub(crate) model: String,
    /// The slices of each target, round by round.
    pub(crate) slices: Vec<Vec<Slice>>,
    /// The memory of each target's processes before they were driven.
    pub(crate) idle_rss_bytes: Vec<Option<u64>>,
    /// The targets of each round, in the order in which they were driven.
    pub(crate) orders: Vec<Vec<usize>>,
}

impl Report {
    /// Everything as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let targets: Vec<Value> = (0..self.slices.len()).map(|index| self.target(index)).collect();
        json!({"settings": self.settings_json(), "targets": targets}).to_string()
    }

    fn settings_json(&self) -> Value {
        let settings = &self.settings;
        let name = |index: &usize| settings.targets.get(*index).map(|target| target.name.as_str());
        let orders: Vec<Vec<_>> =
            self.orders.iter().map(|order| order.iter().filter_map(name).collect()).collect();
        json!({
            "baseline": name(&0),
            "reference": settings.reference,
            "mode": settings.mode,
            "load": settings.load,
            "check": settings.check,
            "path": settings.path,
            "model": self.model,
            "max_tokens": settings.max_tokens,
            "request_bytes": prompt::body(settings, &self.model).map(|body| body.len()).ok(),
            "body": settings.members,
            "transit": settings.transit,
            "headers": settings.headers.iter().map(|header| header.0.as_str()).collect::<Vec<_>>(),
            "ramp_s": settings.ramp.as_secs_f64(),
            "duration_s": settings.duration.as_secs_f64(),
            "rounds": settings.rounds,
            "warmup_rounds": settings.warmup,
            "timeout_s": settings.timeout.as_secs_f64(),
            "seed": settings.seed,
            "orders": orders,
        })
    }

    fn target(&self, index: usize) -> Value {
        let target = self.settings.targets.get(index);
        let slices = self.of(index);
        let mut errors = BTreeMap::<String, u64>::new();
        for (failure, count) in slices.iter().flat_map(|slice| &slice.errors) {
            *errors.entry(failure.to_string()).or_default() += count;
        }
        let distributions: Map<String, Value> = TIMED
            .iter()
            .map(|(stem, times)| {
                let steps = merged(slices, *times).distribution();
                let us = |step: &(f64, u64)| json!([step.0, micro(step.1)]);
                (format!("{stem}us"), steps.iter().map(us).collect())
            })
            .collect();
        json!({
            "name": target.map(|target| &target.name),
            "url": target.map(|target| &target.url),
            "pid": target.and_then(|target| target.pid),
            "errors": errors,
            "connects": slices.iter().map(|slice| slice.reconnects).sum::<u64>(),
            "metrics": self.metrics(index),
            "rounds": slices.iter().map(round).collect::<Vec<_>>(),
            "distributions": distributions,
        })
    }

    fn of(&self, index: usize) -> &[Slice] {
        self.slices.get(index).map(Vec::as_slice).unwrap_or_default()
    }

    /// The target that the others are divided by.
    fn base(&self) -> usize {
        let reference = self.settings.reference.as_ref();
        let is_reference = |name: &String| reference == Some(name);
        self.settings.targets.iter().position(|target| is_reference(&target.name)).unwrap_or(0)
    }

    /// All metrics that `index` has, by name.
    fn metrics(&self, index: usize) -> Map<String, Value> {
        let mut found = BTreeMap::<String, Estimate>::new();
        for (stem, times) in TIMED {
            for (name, quantile) in QUANTILES {
                self.quantile(index, &format!("{stem}{name}"), times, quantile, &mut found);
            }
        }
        for (name, number) in RATES.into_iter().chain(COSTS) {
            let own = self.series(index, number);
            add(&mut found, name.to_owned(), self.level(&own));
            if index != 0 && index != self.base() {
                let ratio = paired(&own, &self.series(self.base(), number), |a, b| a / b);
                add(&mut found, format!("{name}_ratio"), self.level(&ratio));
            }
        }
        let slices = self.of(index);
        let cores = self.series(index, |slice| per(slice.cpu_ns? as f64, slice.elapsed_ns as f64));
        add(&mut found, "cpu_cores".to_owned(), self.level(&cores));
        let own = self.series(index, |slice| per(slice.own_cpu_ns as f64, slice.elapsed_ns as f64));
        add(&mut found, "generator_cpu_cores".to_owned(), self.level(&own));
        let rss_bytes = slices.iter().filter_map(|slice| slice.rss_bytes).max();
        let (requests, errors): (u64, u64) =
            slices.iter().fold((0, 0), |sum, s| (sum.0 + s.requests, sum.1 + s.failed()));
        for (name, value) in [
            ("rss_mib", rss_bytes.map(|bytes| bytes as f64 / f64::from(1 << 20))),
            ("rss_per_stream_kib", self.rss_per_stream_bytes(index).map(|bytes| bytes / 1024.0)),
            ("late_p99_us", merged(slices, |slice| &slice.late).quantile_ns(0.99).map(micro)),
            ("requests", Some(requests as f64)),
            ("errors", Some(errors as f64)),
            ("error_percent", per(100.0 * errors as f64, (requests + errors) as f64)),
        ] {
            add(&mut found, name.to_owned(), value.map(Estimate::exact));
        }
        let ordered = metric_names().into_iter().map(|name| {
            let value = found.get(&name).map_or(Value::Null, |estimate| json!(estimate));
            (name, value)
        });
        ordered.collect()
    }

    /// By how much the most memory of all rounds exceeds that before them, for each stream that was open.
    fn rss_per_stream_bytes(&self, index: usize) -> Option<f64> {
        let slices = self.of(index);
        let streams = slices.iter().filter(|slice| slice.ttft.count() > 0).map(|slice| slice.open);
        let open = streams.max().filter(|open| *open >= MIN_OPEN)?;
        let most = slices.iter().filter_map(|slice| slice.rss_bytes).max()?;
        let idle = *self.idle_rss_bytes.get(index)?;
        per(most.saturating_sub(idle?) as f64, open as f64)
    }

    /// One quantile of one of the times: itself, over the base's, and what it adds, over what the reference adds.
    fn quantile(
        &self,
        index: usize,
        name: &str,
        times: TimesOf,
        quantile: f64,
        found: &mut BTreeMap<String, Estimate>,
    ) {
        let series = |index| -> Series {
            let of = |slice| times(slice).quantile_ns(quantile).map(micro);
            self.of(index).iter().map(of).collect()
        };
        // Where a round has too few times for the quantile, all rounds together may have enough; then there is no interval.
        let pooled = |index| merged(self.of(index), times).quantile_ns(quantile).map(micro);
        let own = series(index);
        let level = self.level(&own).or_else(|| pooled(index).map(Estimate::exact));
        add(found, format!("{name}_us"), level);
        if index == 0 {
            return;
        }
        let base = self.base();
        if base != index {
            let ratio = paired(&own, &series(base), |a, b| a / b);
            add(found, format!("{name}_ratio"), self.level(&ratio));
        }
        let baseline = series(0);
        let added = paired(&own, &baseline, |a, b| a - b);
        let level =
            self.level(&added).or_else(|| Some(Estimate::exact(pooled(index)? - pooled(0)?)));
        add(found, format!("added_{name}_us"), level);
        if base > 0 && base != index {
            let reference = paired(&series(base), &baseline, |a, b| a - b);
            let ratio = estimate(
                &[&added, &reference],
                |medians| match medians {
                    // What adds nothing measurable is no yardstick.
                    [own, reference] if *reference > 0.0 => Some(own / reference),
                    _ => None,
                },
                self.settings.seed,
            );
            add(found, format!("added_{name}_ratio"), ratio);
        }
    }

    fn series(&self, index: usize, number: Number) -> Series {
        self.of(index).iter().map(number).collect()
    }

    fn level(&self, series: &Series) -> Option<Estimate> {
        estimate(&[series], |medians| medians.first().copied(), self.settings.seed)
    }
}

fn add(found: &mut BTreeMap<String, Estimate>, name: String, estimate: Option<Estimate>) {
    if let Some(estimate) = estimate {
        found.insert(name, estimate);
    }
}

fn micro(ns: u64) -> f64 {
    ns as f64 / 1e3
}

fn merged(slices: &[Slice], times: TimesOf) -> Times {
    let mut all = Times::default();
    slices.iter().for_each(|slice| all.merge(times(slice)));
    all
}

fn round(slice: &Slice) -> Value {
    let median = |times: &Times| times.quantile_ns(0.5).map(micro);
    json!({
        "requests": slice.requests,
        "chunks": slice.chunks,
        "errors": slice.failed(),
        "elapsed_s": slice.elapsed_ns as f64 / 1e9,
        "cpu_s": slice.cpu_ns.map(|ns| ns as f64 / 1e9),
        "rss_bytes": slice.rss_bytes,
        "open": slice.open,
        "generator_cpu_s": slice.own_cpu_ns as f64 / 1e9,
        "p50_us": median(&slice.latency),
        "p99_us": slice.latency.quantile_ns(0.99).map(micro),
        "ttft_p50_us": median(&slice.ttft),
        "icl_p50_us": median(&slice.icl),
        "transit_p50_us": median(&slice.transit),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::tests::settings;
    use crate::settings::Mode;
    use crate::target::Target;

    fn slice(latency_us: u64, cpu_us: u64) -> Slice {
        let mut slice = Slice { elapsed_ns: 1_000_000_000, ..Slice::default() };
        let ns = latency_us * 1000;
        (0..100).for_each(|_| slice.record(0, &[ns / 4, ns / 2], &[(0, ns / 4)], ns));
        slice.cpu_ns = Some(cpu_us * 1000 * 100);
        slice.rss_bytes = Some(2 << 20);
        slice.own_cpu_ns = 250_000_000;
        slice.open = 128;
        slice
    }

    fn report(reference: Option<&str>) -> Value {
        let targets = ["direct", "fastwrap", "nginx"];
        let targets = targets.map(|name| Target::new(name, "http://localhost", None).unwrap());
        // The machine slows down; fastwrap always adds 10, nginx 20.
        let slices = [(0, 5), (10, 8), (20, 4)]
            .map(|(added, cpu)| [100, 200, 300].map(|drift| slice(drift + added, cpu)).to_vec());
        let report = Report {
            settings: Settings {
                targets: targets.to_vec(),
                reference: reference.map(str::to_owned),
                mode: Mode::Sse,
                ..settings()
            },
            model: "tiny".to_owned(),
            slices: slices.to_vec(),
            idle_rss_bytes: vec![Some(1 << 20); 3],
            orders: vec![vec![0, 1, 2], vec![2, 0, 1], vec![1, 2, 0]],
        };
        serde_json::from_str(&report.to_json()).unwrap()
    }

    fn near(value: &Value, wanted: f64) -> bool {
        (value["value"].as_f64().unwrap() - wanted).abs() < 0.3
    }

    #[test]
    fn what_a_target_adds_is_seen_through_drift() {
        let report = report(None);
        let fastwrap = &report["targets"][1]["metrics"];
        assert!(near(&fastwrap["p50_us"], 210.0), "{fastwrap}");
        assert!(near(&fastwrap["added_p50_us"], 10.0));
        assert!(near(&fastwrap["added_p99_us"], 10.0));
        assert!(near(&fastwrap["added_ttft_p50_us"], 2.5));
        assert!(near(&fastwrap["added_icl_p50_us"], 2.5));
        assert_eq!(fastwrap["added_p50_ratio"], Value::Null);
        // 100 times in a round are too few, and 300 in all.
        assert_eq!(fastwrap["p999_us"], Value::Null);
        assert!(near(&fastwrap["chunks_per_s"], 200.0));
        assert!(near(&fastwrap["cpu_us_per_request_ratio"], 1.6));
        assert_eq!(fastwrap["rss_mib"]["value"], 2.0);
        assert_eq!(fastwrap["rss_per_stream_kib"]["value"], 8.0);
        assert_eq!(fastwrap["generator_cpu_cores"]["value"], 0.25);
        assert!(near(&fastwrap["added_transit_p50_us"], 2.5));
        assert!(near(&fastwrap["p50_ratio"], 1.05));
        let direct = &report["targets"][0]["metrics"];
        assert_eq!(direct["added_p50_us"], Value::Null);
        assert_eq!(direct["requests_per_s_ratio"], Value::Null);
        assert_eq!(report["settings"]["orders"][1], json!(["nginx", "direct", "fastwrap"]));
    }

    #[test]
    fn a_reference_divides_what_is_added() {
        let report = report(Some("nginx"));
        let fastwrap = &report["targets"][1]["metrics"];
        assert!(near(&fastwrap["added_p50_ratio"], 0.5));
        assert!(near(&fastwrap["cpu_us_per_chunk_ratio"], 2.0));
        assert!(fastwrap["p50_ratio"]["value"].as_f64().unwrap() < 1.0, "{fastwrap}");
        for (index, metric) in [
            (2, "added_p50_ratio"),
            (2, "p50_ratio"),
            (0, "p50_ratio"),
            (2, "requests_per_s_ratio"),
            (0, "requests_per_s_ratio"),
        ] {
            assert_eq!(report["targets"][index]["metrics"][metric], Value::Null);
        }
    }

    #[test]
    fn every_metric_has_a_name_and_no_other() {
        let report = report(Some("nginx"));
        let metrics = report["targets"][1]["metrics"].as_object().unwrap();
        assert_eq!(metrics.keys().cloned().collect::<Vec<_>>(), metric_names());
        assert!(metric_names().contains(&"added_p99_us".to_owned()));
    }
}
