//! What Linux tells of the machine.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// A variable of the environment; an empty one counts as not set.
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Where the kernel shows its thermal zones.
const ZONES: &str = "/sys/class/thermal";

/// Temperatures in °C by the name of the zone (`cpu-thermal`, `GPU-therm`, …); empty where the machine tells none.
pub fn temperatures() -> BTreeMap<String, f64> {
    temperatures_in(Path::new(ZONES))
}

/// The names of all thermal zones, whether they tell a temperature now or not.
pub fn zones() -> Vec<String> {
    all_zones(Path::new(ZONES)).map(|(name, _)| name).collect()
}

fn temperatures_in(folder: &Path) -> BTreeMap<String, f64> {
    let degrees = |path: &Path| {
        let milli: f64 = fs::read_to_string(path.join("temp")).ok()?.trim().parse().ok()?;
        // A sensor that is switched off tells nothing, or nonsense.
        Some(milli / 1000.0).filter(|degrees| (-60.0..200.0).contains(degrees))
    };
    all_zones(folder).filter_map(|(name, path)| Some((name, degrees(&path)?))).collect()
}

fn all_zones(folder: &Path) -> impl Iterator<Item = (String, PathBuf)> {
    devices(folder, b"thermal_zone")
}

/// The type and the folder of everything whose name begins so.
fn devices(folder: &Path, begins: &'static [u8]) -> impl Iterator<Item = (String, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let found =
        entries.filter(move |path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(begins)));
    found.filter_map(|path| Some((fs::read_to_string(path.join("type")).ok()?.trim().to_owned(), path)))
}

/// How far each cooling device is on (0 is off), by its name: a fan that turns, a processor that is held back. Of several with
/// one name, the furthest.
pub fn cooling() -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for (name, path) in devices(Path::new(ZONES), b"cooling_device") {
        let state = fs::read_to_string(path.join("cur_state")).ok().and_then(|text| text.trim().parse::<u64>().ok());
        if let Some(state) = state {
            let furthest: &mut u64 = all.entry(name).or_default();
            *furthest = (*furthest).max(state);
        }
    }
    all
}

/// What a Jetson tells of its speed; nothing elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Speed {
    /// The power mode of nvpmodel, by its number.
    pub power_mode: Option<u32>,
    /// Clock of the GPU in Hz, now and at most.
    pub gpu_hz: Option<[f64; 2]>,
}

/// How fast a Jetson may be, and is.
pub fn speed() -> Speed {
    speed_in(Path::new("/"))
}

fn speed_in(root: &Path) -> Speed {
    // As nvpmodel leaves it: `pmode:0002`.
    let mode = fs::read_to_string(root.join("var/lib/nvpmodel/status")).ok();
    let power_mode = mode.and_then(|text| text.trim().trim_start_matches("pmode:").parse().ok());
    let devices = fs::read_dir(root.join("sys/class/devfreq")).into_iter().flatten().flatten();
    // 17000000.gv11b on Xavier NX, 17000000.gp10b on TX2 NX.
    let is_gpu = |name: &str| name.ends_with(".gv11b") || name.ends_with(".gp10b") || name.contains("gpu");
    let gpu = devices.filter(|device| is_gpu(&device.file_name().to_string_lossy())).map(|device| device.path()).next();
    let read = |file: &str| fs::read_to_string(gpu.as_ref()?.join(file)).ok()?.trim().parse::<f64>().ok();
    Speed { power_mode, gpu_hz: read("cur_freq").zip(read("max_freq")).map(|(now, most)| [now, most]) }
}

/// Memory of this process in bytes (resident), 0 where Linux does not tell.
pub fn memory() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").ok();
    let resident = pages.and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok());
    resident.unwrap_or(0) * rustix::param::page_size() as u64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn zones_are_read_by_name_and_a_broken_sensor_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        for (number, name, temp) in
            [(0, "cpu-thermal", "51500\n"), (1, "GPU-therm", "nonsense"), (2, "PMIC", "-256000")]
        {
            let zone = folder.path().join(format!("thermal_zone{number}"));
            fs::create_dir(&zone).unwrap();
            fs::write(zone.join("type"), format!("{name}\n")).unwrap();
            fs::write(zone.join("temp"), temp).unwrap();
        }
        fs::create_dir(folder.path().join("cooling_device0")).unwrap();
        assert_eq!(temperatures_in(folder.path()), BTreeMap::from([("cpu-thermal".to_owned(), 51.5)]));
        assert_eq!(temperatures_in(Path::new("/nowhere")), BTreeMap::new());
    }

    #[test]
    fn power_mode_and_clock_of_a_jetson_are_read() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("var/lib/nvpmodel/status", "pmode:0002\n");
        write("sys/class/devfreq/17000000.gv11b/cur_freq", "114750000\n");
        write("sys/class/devfreq/17000000.gv11b/max_freq", "1109250000\n");
        write("sys/class/devfreq/15880000.nvdla0/cur_freq", "1\n");
        let expected = Speed { power_mode: Some(2), gpu_hz: Some([114_750_000.0, 1_109_250_000.0]) };
        assert_eq!(speed_in(root.path()), expected);
        assert_eq!(speed_in(Path::new("/nowhere")), Speed::default());
    }

    #[test]
    fn a_process_takes_memory() {
        assert!(memory() > 1 << 20);
    }
}
