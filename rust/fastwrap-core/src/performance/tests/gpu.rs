//! What the GPUs did, in the block.

use super::*;
use crate::gpu::{DeviceWindow, Energy, EnergyMethod, Memory, Summary, Window};

/// A device of which everything is known.
fn device(uuid: &str) -> DeviceWindow {
    let summary = |mean, peak| Ok(Summary { mean, peak });
    DeviceWindow {
        uuid: uuid.into(),
        memory: Ok(Memory {
            start_bytes: 3 << 20,
            end_bytes: 1 << 20,
            peak_bytes: (9 << 20) + 1024,
        }),
        reserved_bytes: Ok(512 << 20),
        energy: Ok(Energy {
            device_uj: 400_000_000,
            attributed_uj: 100_000_400,
            window_ns: 800 * MS,
            method: EnergyMethod::Counter,
        }),
        power_mw: summary(450_500.0, 700_000),
        power_method: Ok("instant"),
        utilization_percent: summary(62.5, 99),
        temperature_c: summary(60.5, 61),
        sm_clock_mhz: summary(1900.5, 1980),
        throttle_reasons: Ok(vec!["sw_power_cap"]),
    }
}

fn window(devices: Vec<DeviceWindow>) -> Window {
    let total = Memory { start_bytes: 3 << 20, end_bytes: 1 << 20, peak_bytes: 9 << 20 };
    let interval_ns = Some(20 * MS);
    Window { total: Ok(total), devices, samples: 4, interval_ns, largest_gap_ns: 31 * MS }
}

#[test]
fn what_a_gpu_did_is_said_in_the_units_of_the_names() {
    let mut performance = Performance { completion_tokens: Some(30), ..Performance::default() };
    performance.set_gpu(Ok(window(vec![device("GPU-1")])));
    assert_eq!(performance.memory_delta_mb, Some(-2.0), "memory may fall");
    assert_eq!(performance.peak_memory_mb, Some(9.0));
    assert_eq!(performance.energy_j, Some(400.0));
    assert_eq!(performance.attributed_energy_j, Some(100.0));
    assert_eq!(performance.energy_per_output_token_j, Some(3.333_347));
    assert!(performance.unavailable.is_empty());
    let block: Value = serde_json::from_slice(&performance.to_json()).unwrap();
    let wanted = json!({
        "uuid": "GPU-1", "memory_start_mb": 3.0, "memory_end_mb": 1.0, "memory_peak_mb": 9.001,
        "memory_delta_mb": -2.0, "memory_reserved_mb": 512.0, "samples": 4, "sample_interval_ms": 20.0,
        "largest_gap_ms": 31.0, "energy_j": 400.0, "attributed_energy_j": 100.0, "energy_window_ms": 800.0,
        "energy_method": "counter", "power_mean_w": 450.5, "power_peak_w": 700.0, "power_method": "instant",
        "utilization": 0.625, "temperature_max_c": 61, "sm_clock_mean_mhz": 1900.5,
        "throttle_reasons": ["sw_power_cap"], "unavailable": {},
    });
    assert_eq!(block["gpu"], json!([wanted]));
}

#[test]
fn every_null_of_a_gpu_has_its_reason() {
    let broken = DeviceWindow {
        uuid: "MIG-1".into(),
        memory: Err("not_supported"),
        reserved_bytes: Err("version_mismatch"),
        energy: Err("mig_unsupported"),
        power_mw: Err("gpu_lost"),
        power_method: Err("gpu_lost"),
        utilization_percent: Err("mig_unsupported"),
        temperature_c: Err("no_permission"),
        sm_clock_mhz: Err("window_too_short"),
        throttle_reasons: Err("unknown_error"),
    };
    let mut performance = Performance { completion_tokens: Some(30), ..Performance::default() };
    let lacking = Window { samples: 0, interval_ns: None, ..window(vec![device("GPU-1"), broken]) };
    performance.set_gpu(Ok(Window { total: Err("not_supported"), ..lacking }));
    let block: Value = serde_json::from_slice(&performance.to_json()).unwrap();
    let members = block["gpu"][1].as_object().unwrap();
    let nulls = members.iter().filter(|(_, value)| value.is_null()).map(|(key, _)| key.as_str());
    let reasons = members["unavailable"].as_object().unwrap();
    let (mut nulls, mut reasons): (Vec<_>, Vec<_>) =
        (nulls.collect(), reasons.keys().map(String::as_str).collect());
    nulls.sort_unstable();
    reasons.sort_unstable();
    assert_eq!(nulls, reasons);
    assert_eq!(members["unavailable"]["energy_window_ms"], "mig_unsupported");
    assert_eq!(members["unavailable"]["memory_reserved_mb"], "version_mismatch");
    assert_eq!(members["unavailable"]["sample_interval_ms"], "window_too_short");
    for (field, reason) in [
        ("peak_memory_mb", "not_supported"),
        ("memory_start_mb", "not_supported"),
        ("energy_j", "mig_unsupported"),
        ("attributed_energy_j", "mig_unsupported"),
        ("energy_per_output_token_j", "mig_unsupported"),
    ] {
        assert_eq!((&block[field], &block["unavailable"][field]), (&Value::Null, &json!(reason)));
    }
}

#[test]
fn energy_per_token_needs_tokens() {
    let known = Some("usage");
    for (tokens, source, reason) in
        [(Some(0), known, "no_tokens"), (None, known, "not_reported"), (None, None, "no_usage")]
    {
        let mut performance = Performance {
            completion_tokens: tokens,
            token_source: source,
            ..Performance::default()
        };
        performance.set_gpu(Ok(window(vec![device("GPU-1"), device("GPU-2")])));
        assert_eq!(performance.energy_j, Some(800.0), "the sum over the devices");
        let block: Value = serde_json::from_slice(&performance.to_json()).unwrap();
        assert_eq!(block["unavailable"], json!({ "energy_per_output_token_j": reason }));
    }
}
