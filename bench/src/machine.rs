//! The machine that a figure comes from, and how noisy it is.

use std::time::{Duration, Instant};

use crate::statistics::human;

/// How often the fixed piece of work is timed for the noise.
const ROUNDS: usize = 15;

/// Cores, processor, memory and kernel, in one line.
#[must_use]
pub fn description() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu = line_of("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".into());
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory = line_of("/proc/meminfo", "MemTotal")
        .and_then(|text| text.split(' ').next()?.parse::<u64>().ok())
        .map_or(0, |kilobytes| kilobytes / (1024 * 1024));
    format!(
        "{cores} cores ({cpu}), {memory} GiB, Linux {}",
        kernel.trim()
    )
}

/// Times one fixed piece of work a few times: `64 ms to 71 ms, 11 %`. What differs less than
/// that between two runs says nothing.
#[must_use]
pub fn noise() -> String {
    let mut times: Vec<Duration> = (0..ROUNDS).map(|_| fixed_work()).collect();
    times.sort_unstable();
    let (least, most) = (times[0], times[ROUNDS - 1]);
    let share = (most.as_secs_f64() / least.as_secs_f64() - 1.0) * 100.0;
    format!(
        "a fixed loop took {} to {} in {ROUNDS} rounds ({share:.0} %)",
        human(least),
        human(most)
    )
}

/// Sums over 32 MiB, four times: memory and arithmetic, as hashing is.
fn fixed_work() -> Duration {
    let bytes = vec![7_u8; 32 << 20];
    let began = Instant::now();
    let mut sum = 0_u64;
    for _ in 0..4 {
        for chunk in bytes.chunks_exact(8) {
            let word = u64::from_le_bytes(chunk.try_into().unwrap_or_default());
            sum = sum.rotate_left(5) ^ word.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        }
    }
    std::hint::black_box(sum);
    began.elapsed()
}

fn line_of(file: &str, name: &str) -> Option<String> {
    std::fs::read_to_string(file)
        .ok()?
        .lines()
        .find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim().to_owned())
        })
}
