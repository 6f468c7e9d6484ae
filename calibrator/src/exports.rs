//! Ranges of the fp32 network as TensorRT reads them, for whoever has it quantized by TensorRT itself.

use anyhow::Result;

/// Name of the calibration cache in a bundle.
pub const CACHE: &str = "calibration.cache";
/// Name of the table of ranges in a bundle.
pub const RANGES: &str = "dynamic-ranges.csv";

/// The greatest magnitude to be kept of a value, by its name in `fp32.onnx`.
pub type Range = (String, f32);

/// The text of a calibration cache of TensorRT 8.5.2: a line for each value, its scale as the bits of a big-endian float.
pub fn calibration_cache(ranges: &[Range]) -> String {
    let mut text = String::from("TRT-8502-EntropyCalibration2\n");
    for (name, amax) in ranges {
        text += &format!("{name}: {:08x}\n", (amax / 127.0).to_bits());
    }
    text
}

/// A table of the greatest magnitude of each value, for `ITensor::setDynamicRange(-amax, amax)`.
pub fn dynamic_ranges(ranges: &[Range]) -> Result<String> {
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(["value", "amax"])?;
    for (name, amax) in ranges {
        table.write_record([name, &amax.to_string()])?;
    }
    Ok(String::from_utf8(table.into_inner()?)?)
}
