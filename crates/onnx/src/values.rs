//! The numbers of a constant.

use half::f16;

use crate::proto::TensorProto;
use crate::proto::tensor_proto::DataType;

/// The values of a constant that is stored with the model, as 32-bit floats; 32-bit integers lose their last digits.
///
/// `None` for values in another file, for formats other than 32- and 16-bit floats and 8-, 16- and 32-bit integers and signed
/// 4-bit ones, for 16- and 4-bit ones that are not raw bytes, and where there are more or fewer bytes than the shape says.
pub fn values(tensor: &TensorProto) -> Option<Vec<f32>> {
    let count = product(&tensor.dims)?;
    let kind = DataType::try_from(tensor.data_type()).ok()?;
    let Some(bytes) = &tensor.raw_data else {
        let all: Vec<f32> = match kind {
            DataType::Float => tensor.float_data.clone(),
            DataType::Int8 | DataType::Uint8 | DataType::Int32 => {
                tensor.int32_data.iter().map(|value| *value as f32).collect()
            }
            _ => return None,
        };
        return (all.len() == count).then_some(all);
    };
    let size = match kind {
        DataType::Float | DataType::Int32 => count.checked_mul(4)?,
        DataType::Float16 | DataType::Int16 => count.checked_mul(2)?,
        DataType::Int8 | DataType::Uint8 => count,
        DataType::Int4 => count.div_ceil(2),
        _ => return None,
    };
    if bytes.len() != size {
        return None;
    }
    Some(match kind {
        DataType::Float => bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        DataType::Int32 => bytes.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes) as f32).collect(),
        DataType::Int16 => bytes.as_chunks().0.iter().map(|bytes| f32::from(i16::from_le_bytes(*bytes))).collect(),
        DataType::Float16 => bytes.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect(),
        DataType::Uint8 => bytes.iter().map(|byte| f32::from(*byte)).collect(),
        DataType::Int8 => bytes.iter().map(|byte| f32::from(byte.cast_signed())).collect(),
        // Two in a byte, the first in the lower half; shifting up and down again brings the sign along.
        _ => {
            let pair = |byte: &u8| [(byte << 4).cast_signed() >> 4, byte.cast_signed() >> 4].map(f32::from);
            bytes.iter().flat_map(pair).take(count).collect()
        }
    })
}

/// The 64-bit integers of a constant, such as the target of a `Reshape`; nothing where it holds others.
pub fn whole_numbers(tensor: &TensorProto) -> Vec<i64> {
    match &tensor.raw_data {
        Some(bytes) if tensor.data_type() == DataType::Int64 as i32 && !bytes.is_empty() => {
            bytes.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()
        }
        _ => tensor.int64_data.clone(),
    }
}

/// The number of values of a shape; `None` for sizes below 0 and beyond all bounds.
pub(crate) fn product(dims: &[i64]) -> Option<usize> {
    dims.iter().try_fold(1usize, |product, &dim| product.checked_mul(usize::try_from(dim).ok()?))
}
