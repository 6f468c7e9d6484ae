//! Ranges as TensorRT reads them.

use anyhow::Result;

use crate::quantize::Quantized;

/// Name of the calibration cache in a bundle.
pub const CACHE: &str = "calibration.cache";
/// Name of the table of ranges in a bundle.
pub const RANGES: &str = "dynamic-ranges.csv";

/// The text of a calibration cache of TensorRT 8.5.2: a line for each value, its scale as the bits of a big-endian float.
///
/// Every value is listed, also those that the int8 network keeps as floats: TensorRT without rounding in the graph wants all.
pub fn calibration_cache(quantized: &Quantized) -> String {
    let mut text = String::from("TRT-8502-EntropyCalibration2\n");
    for (name, amax) in ranges(quantized) {
        text += &format!("{name}: {:08x}\n", (amax / 127.0).to_bits());
    }
    text
}

/// A table of the greatest magnitude of each value, for `ITensor::setDynamicRange(-amax, amax)`.
pub fn dynamic_ranges(quantized: &Quantized) -> Result<String> {
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(["value", "amax"])?;
    for (name, amax) in ranges(quantized) {
        table.write_record([name, amax.to_string()])?;
    }
    Ok(String::from_utf8(table.into_inner()?)?)
}

fn ranges(quantized: &Quantized) -> impl Iterator<Item = (String, f32)> {
    quantized.values.iter().enumerate().map(|(at, value)| {
        let amax = value.grid.map_or(value.amax, |grid| grid.range()[1]);
        (quantized.network.value_name(at).to_owned(), amax)
    })
}
