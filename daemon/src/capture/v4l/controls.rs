//! Exposure, gain and white balance: fixed by the configuration, or held during an exam as the camera chose them.
//!
//! A colour that changes between two frames of one exam because the camera changed its mind would pass for pallor.

use std::{fmt, io};

use ::v4l::control::{Control as Setting, Value};
use ::v4l::device::Device;
use ::v4l::v4l_sys as sys;

use crate::config;

/// One thing that a camera can adjust by itself.
struct Automatic {
    name: &'static str,
    unit: &'static str,
    /// The control that switches between automatic and manual, and its manual value.
    switch: u32,
    manual: i64,
    /// The control that holds the value.
    value: u32,
}

const AUTOMATICS: [Automatic; 3] = [
    Automatic {
        name: "exposure",
        unit: "00 µs",
        switch: sys::V4L2_CID_EXPOSURE_AUTO,
        manual: sys::v4l2_exposure_auto_type_V4L2_EXPOSURE_MANUAL as i64,
        value: sys::V4L2_CID_EXPOSURE_ABSOLUTE,
    },
    Automatic { name: "gain", unit: "", switch: sys::V4L2_CID_AUTOGAIN, manual: 0, value: sys::V4L2_CID_GAIN },
    Automatic {
        name: "white balance",
        unit: " K",
        switch: sys::V4L2_CID_AUTO_WHITE_BALANCE,
        manual: 0,
        value: sys::V4L2_CID_WHITE_BALANCE_TEMPERATURE,
    },
];

/// The value of a control, switches as 0 and 1; `None` where the camera has no such control.
fn read(device: &Device, id: u32) -> Option<i64> {
    match device.control(id).ok()?.value {
        Value::Integer(value) => Some(value),
        Value::Boolean(value) => Some(value.into()),
        _ => None,
    }
}

fn write(device: &Device, id: u32, value: i64) -> io::Result<()> {
    device.set_control(Setting { id, value: Value::Integer(value) })
}

/// What is fixed or held of a camera.
#[derive(Debug, Default)]
pub(super) struct Held {
    fixed: Vec<&'static str>,
    can_hold: Vec<&'static str>,
    refused: Vec<String>,
    /// The switches as they were before an exam.
    before: Vec<(u32, i64)>,
}

impl Held {
    /// Sets what the configuration fixes. What the camera refuses is told and no reason not to use it.
    pub(super) fn new(device: &Device, settings: &config::V4lCamera) -> Self {
        // V4L2 counts exposure in steps of 100 µs.
        let exposure = settings.exposure_us.map(|time| i64::from(time.div_ceil(100)));
        let wanted = [exposure, settings.gain.map(i64::from), settings.white_balance_k.map(i64::from)];
        let controls = device.query_controls().unwrap_or_default();
        let mut held = Self::default();
        for (automatic, wanted) in AUTOMATICS.iter().zip(wanted) {
            match wanted {
                Some(value) => {
                    // A camera without automatic has no switch.
                    let _ = write(device, automatic.switch, automatic.manual);
                    match write(device, automatic.value, value) {
                        Ok(()) => held.fixed.push(automatic.name),
                        Err(error) => held.refused.push(format!("{} cannot be set: {error}", automatic.name)),
                    }
                }
                None if read(device, automatic.switch).is_some() => {
                    // A program that was killed in an exam left it held.
                    if let Some(control) = controls.iter().find(|control| control.id == automatic.switch) {
                        let _ = write(device, automatic.switch, control.default);
                    }
                    held.can_hold.push(automatic.name);
                }
                None => {}
            }
        }
        held
    }

    /// Holds what the camera chose, or gives it back the choice.
    pub(super) fn hold(&mut self, device: &Device, hold: bool) {
        if !hold {
            for (switch, value) in self.before.drain(..) {
                if let Err(error) = write(device, switch, value) {
                    tracing::debug!("camera: a control is not given back: {error}");
                }
            }
            return;
        }
        for automatic in AUTOMATICS.iter().filter(|automatic| self.can_hold.contains(&automatic.name)) {
            let chosen = read(device, automatic.value);
            let Some(before) = read(device, automatic.switch) else { continue };
            if let Err(error) = write(device, automatic.switch, automatic.manual) {
                tracing::debug!("camera: {} is not held: {error}", automatic.name);
                continue;
            }
            self.before.push((automatic.switch, before));
            // Some cameras fall back to an old manual value.
            if let Some(value) = chosen {
                let _ = write(device, automatic.value, value);
            }
        }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &[&str]| if names.is_empty() { "nothing".into() } else { names.join(", ") };
        write!(out, "fixed: {}; held during an exam: {}", list(&self.fixed), list(&self.can_hold))?;
        self.refused.iter().try_for_each(|refused| write!(out, "; {refused}"))
    }
}

/// One control as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// What it is.
    pub name: &'static str,
    /// Its value with its unit, where the camera tells it.
    pub value: Option<String>,
    /// Whether the camera chooses it now; `None` where it never does.
    pub automatic: Option<bool>,
}

/// The controls that matter for colour, of which the camera has at least the value or the switch.
pub fn controls(device: &Device) -> Vec<Control> {
    let mut found = Vec::new();
    for Automatic { name, unit, switch, manual, value } in &AUTOMATICS {
        let switch = read(device, *switch);
        let value = read(device, *value).map(|value| format!("{value}{unit}"));
        if switch.is_some() || value.is_some() {
            found.push(Control { name, value, automatic: switch.map(|switch| switch != *manual) });
        }
    }
    found
}
