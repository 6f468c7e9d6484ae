//! Files of pretrained weights: `.safetensors`, and what `torch.save` writes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use candle_core::pickle::{Object, PthTensors, Stack, TensorInfo};
use candle_core::{DType, Device};
use tch::Tensor;

use super::read_tensors;
use crate::network::{MEAN, STD};

/// The mean and deviation of ImageNet, which torchvision's networks are fed with.
const IMAGENET: ([f32; 3], [f32; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
/// The magic number of files before PyTorch 1.6, itself a pickle.
const LEGACY: &[u8; 15] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
/// The names of the conventions in a file.
const NAMES: [&str; 3] = ["conventions.epsilon", "conventions.mean", "conventions.std"];

/// What a network was trained with, and has to be used with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Conventions {
    /// Added to the variance in the batch normalisations.
    pub(crate) epsilon: f64,
    /// The input is `(byte / 255 − mean) / std`.
    pub(crate) mean: [f32; 3],
    /// See `mean`.
    pub(crate) std: [f32; 3],
}

impl Conventions {
    /// Those of the network of colours, which starts from random numbers.
    pub(crate) const COLOURS: Self = Self { epsilon: 1e-5, mean: [MEAN; 3], std: [STD; 3] };

    /// As tensors with names, to be written beside the weights.
    pub(crate) fn to_tensors(self) -> [(&'static str, Tensor); 3] {
        let values =
            [Tensor::from_slice(&[self.epsilon]), Tensor::from_slice(&self.mean), Tensor::from_slice(&self.std)];
        std::array::from_fn(|index| (NAMES[index], values[index].shallow_clone()))
    }

    /// What the file itself says. torchvision's own files say nothing, but hold the last layer of ImageNet: epsilon 1e-5
    /// and ImageNet's mean and deviation. Any other file is taken as converted from Keras: 1e-3, input from −1 to 1.
    fn of(tensors: &HashMap<String, Tensor>) -> Result<Self> {
        let [epsilon, mean, std] = NAMES.map(|name| tensors.get(name));
        if let (Some(epsilon), Some(mean), Some(std)) = (epsilon, mean, std) {
            let epsilon = Vec::<f64>::try_from(epsilon)?;
            let three = |values: &Tensor| -> Result<[f32; 3]> {
                Vec::<f32>::try_from(values)?.try_into().ok().context("conventions: expected three numbers")
            };
            let epsilon = *epsilon.first().context("conventions: expected an epsilon")?;
            return Ok(Self { epsilon, mean: three(mean)?, std: three(std)? });
        }
        let torchvision = tensors.get("classifier.1.weight").is_some_and(|head| head.size() == [1000, 1280]);
        let (epsilon, (mean, std)) = if torchvision { (1e-5, IMAGENET) } else { (1e-3, ([0.5; 3], [0.5; 3])) };
        Ok(Self { epsilon, mean, std })
    }
}

/// A file of pretrained weights.
pub(crate) struct Pretrained {
    pub(super) path: PathBuf,
    pub(super) tensors: HashMap<String, Tensor>,
    pub(crate) conventions: Conventions,
    /// Written by [`Weights::write`](super::Weights::write): it has learned from pictures of eyes.
    pub(crate) is_ours: bool,
}

impl Pretrained {
    /// Reads a `.safetensors`, or a `.pth` or `.pt` that holds nothing but tensors with names.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let context = || format!("{}", path.display());
        let tensors: HashMap<String, Tensor> = match path.extension().and_then(|end| end.to_str()) {
            Some("safetensors") => read_tensors(path)?.into_iter().collect(),
            Some("pth" | "pt") => read_pth(path).with_context(context)?,
            _ => bail!("{}: expected a file .safetensors, .pth or .pt", path.display()),
        };
        let conventions = Conventions::of(&tensors).with_context(context)?;
        let is_ours = NAMES.iter().all(|name| tensors.contains_key(*name));
        Ok(Self { path: path.to_owned(), tensors, conventions, is_ours })
    }
}

/// Reads what `torch.save` made of a dictionary of tensors. Nothing in the file is executed.
fn read_pth(path: &Path) -> Result<HashMap<String, Tensor>> {
    let mut start = [0; 2];
    File::open(path)?.read_exact(&mut start)?;
    // A ZIP archive since PyTorch 1.6.
    let read = if start == *b"PK" { read_archive } else { read_legacy };
    // The library takes apart what it expects without looking at its length; a damaged file must not end the program.
    let tensors = std::panic::catch_unwind(|| read(path)).unwrap_or_else(|_| bail!("is damaged"))?;
    ensure!(!tensors.is_empty(), "holds no tensors with names; expected the state_dict of a network");
    Ok(tensors)
}

fn read_archive(path: &Path) -> Result<HashMap<String, Tensor>> {
    let file = PthTensors::new(path, None)?;
    let mut tensors = HashMap::new();
    for (name, info) in file.tensor_infos() {
        // Counters of batches are whole numbers, and nothing that a network computes with.
        if info.dtype == DType::F32 {
            let found = file.get(name)?.with_context(|| name.clone())?;
            let values: Vec<f32> = found.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?;
            tensors.insert(name.clone(), tensor(&values, found.dims()));
        }
    }
    Ok(tensors)
}

/// The format before PyTorch 1.6, which torchvision's older files have: five pickles one after the other (a magic number,
/// a version, the machine, the dictionary, the names of the storages), then the length and the numbers of each storage.
fn read_legacy(path: &Path) -> Result<HashMap<String, Tensor>> {
    let mut file = BufReader::new(File::open(path)?);
    let mut magic = [0; LEGACY.len()];
    file.read_exact(&mut magic)?;
    ensure!(magic == *LEGACY, "not a file of torch.save");
    let mut pickle = || -> Result<Object> {
        let mut stack = Stack::empty();
        stack.read_loop(&mut file)?;
        Ok(stack.finalize()?)
    };
    let _version_and_machine = [pickle()?, pickle()?];
    let (dictionary, storages) = (entries(pickle()?)?, pickle()?);
    let Object::List(storages) = storages else { bail!("not a file of torch.save: it names no storages") };
    let mut infos = Vec::new();
    for (name, value) in dictionary {
        infos.extend(value.into_tensor_info(name, Path::new(""))?);
    }
    let sizes: HashMap<&str, (usize, usize)> =
        infos.iter().map(|info| (storage_of(info), (info.storage_size, info.dtype.size_in_bytes()))).collect();
    let mut contents: HashMap<String, Vec<u8>> = HashMap::new();
    for storage in storages {
        let Object::Unicode(name) = storage else { bail!("not a file of torch.save: a storage has no name") };
        let mut length = [0; 8];
        file.read_exact(&mut length)?;
        let &(expected, element) = sizes.get(&name[..]).with_context(|| format!("nothing uses storage {name}"))?;
        let length = u64::from_le_bytes(length);
        ensure!(length == expected as u64, "storage {name} has {length} numbers, expected {expected}");
        let mut bytes = Vec::new();
        file.by_ref().take((expected * element) as u64).read_to_end(&mut bytes)?;
        ensure!(bytes.len() == expected * element, "ends in the middle of storage {name}");
        contents.insert(name, bytes);
    }
    let mut tensors = HashMap::new();
    for info in infos.iter().filter(|info| info.dtype == DType::F32) {
        ensure!(info.layout.is_contiguous(), "{}: its numbers do not lie one after the other", info.name);
        let bytes = contents.get(storage_of(info)).with_context(|| format!("{}: its storage is missing", info.name))?;
        let (start, length) = (info.layout.start_offset(), info.layout.shape().elem_count() * 4);
        let bytes = bytes.get(start..start + length).with_context(|| format!("{}: outside its storage", info.name))?;
        let values: Vec<f32> = bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
        tensors.insert(info.name.clone(), tensor(&values, info.layout.dims()));
    }
    Ok(tensors)
}

/// The entries of a dictionary, ordered or not, with attributes or not.
fn entries(object: Object) -> Result<Vec<(Object, Object)>> {
    match object {
        Object::Dict(entries) => Ok(entries),
        Object::Build { callable, .. } => entries(*callable),
        Object::Reduce { .. } => bail!("an object and not a dictionary; expected the state_dict of a network"),
        _ => bail!("not a file of torch.save with the state_dict of a network"),
    }
}

/// The name of the storage that a tensor lies in.
fn storage_of(info: &TensorInfo) -> &str {
    info.path.rsplit('/').next().unwrap_or(&info.path)
}

fn tensor(values: &[f32], shape: &[usize]) -> Tensor {
    let shape: Vec<i64> = shape.iter().map(|&side| side as i64).collect();
    Tensor::from_slice(values).view(&shape[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
    }

    #[test]
    fn files_of_torch_save_can_be_read_in_both_formats() {
        for name in ["tiny.pth", "tiny-legacy.pth"] {
            let found = Pretrained::read(&fixture(name)).unwrap().tensors;
            let mut names: Vec<_> = found.keys().map(String::as_str).collect();
            names.sort_unstable();
            assert_eq!(names, ["features.0.0.weight", "first", "second"], "{name}");
            let values = |tensor: &Tensor| Vec::<f32>::try_from(&tensor.view(-1)).unwrap();
            let expected = |from: u8, to: u8| (from..to).map(|number| f32::from(number) / 8.0).collect::<Vec<_>>();
            assert_eq!(found["features.0.0.weight"].size(), [2, 3, 1, 2]);
            assert_eq!(values(&found["features.0.0.weight"]), expected(0, 12));
            assert_eq!(values(&found["first"]), expected(0, 8));
            assert_eq!((found["second"].size(), values(&found["second"])), (vec![4, 4], expected(8, 24)));
        }
    }

    #[test]
    fn a_damaged_file_is_an_error_with_its_name() {
        let work = tempfile::tempdir().unwrap();
        let path = work.path().join("weights.pth");
        for name in ["tiny.pth", "tiny-legacy.pth"] {
            let whole = std::fs::read(fixture(name)).unwrap();
            for length in (0..whole.len() - 1).step_by(7) {
                std::fs::write(&path, &whole[..length]).unwrap();
                let error = format!("{:#}", Pretrained::read(&path).err().expect("the file is not whole"));
                assert!(error.contains("weights.pth: "), "{name}, {length} bytes: {error}");
            }
            // Changed bytes may give other numbers, or an error, and nothing else.
            for at in 0..whole.len() {
                let mut changed = whole.clone();
                changed[at] = changed[at].wrapping_add(at as u8 | 1);
                std::fs::write(&path, &changed).unwrap();
                let _ = Pretrained::read(&path);
            }
        }
    }

    #[test]
    fn conventions_are_read_back_and_guessed_where_a_file_says_nothing() {
        let own = Conventions { epsilon: 1e-4, mean: [0.1, 0.2, 0.3], std: [0.4, 0.5, 0.6] };
        let named = own.to_tensors().into_iter().map(|(name, values)| (name.to_owned(), values)).collect();
        assert_eq!(Conventions::of(&named).unwrap(), own);
        let head = Tensor::zeros([1000, 1280], (tch::Kind::Float, tch::Device::Cpu));
        let torchvision = HashMap::from([("classifier.1.weight".to_owned(), head)]);
        assert_eq!(Conventions::of(&torchvision).unwrap().epsilon, 1e-5);
        assert_eq!(Conventions::of(&HashMap::new()).unwrap().mean, [0.5; 3]);
    }
}
