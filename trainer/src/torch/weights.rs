//! The numbers of a network: all trained ones in one tensor, all running statistics in another.
//!
//! One tensor makes the optimizer, the moving average and a checkpoint a handful of operations, however many layers
//! there are. A network sees views of it. Kernels lie channels-last, which libtorch computes fastest with.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tch::{Device, Kind, Tensor, no_grad};

use super::State;
use crate::network::{Network, Parameter, Role};

/// The numbers of one network.
pub(crate) struct Weights {
    parameters: Vec<Parameter>,
    /// What the gradient moves.
    pub(crate) trained: Tensor,
    /// Means and variances of the batch normalisations.
    pub(crate) running: Tensor,
}

impl Weights {
    /// Random kernels (He et al. 2015, fan out), scales of 1, everything else 0.
    pub(crate) fn random(network: &Network, device: Device, seed: i64) -> Self {
        tch::manual_seed(seed);
        let parameters = network.parameters();
        let start = |parameter: &Parameter| {
            let (length, options) = (parameter.size(), (Kind::Float, Device::Cpu));
            match parameter.role {
                Role::Kernel => {
                    let fan_out = parameter.shape[0] * parameter.shape[2] * parameter.shape[3];
                    // A depthwise kernel hands on to one channel, not to all.
                    let fan_out = if parameter.shape[1] == 1 { fan_out / parameter.shape[0] } else { fan_out };
                    Tensor::randn([length], options) * (2.0 / fan_out as f64).sqrt()
                }
                Role::Matrix => Tensor::randn([length], options) * 0.01,
                Role::Scale | Role::RunningVariance => Tensor::ones([length], options),
                Role::Shift | Role::RunningMean => Tensor::zeros([length], options),
            }
        };
        let (trained, running): (Vec<_>, Vec<_>) = parameters.iter().partition(|one| one.role.is_trained());
        let join = |all: &[&Parameter]| {
            let parts: Vec<Tensor> = all.iter().map(|parameter| start(parameter)).collect();
            Tensor::cat(&parts, 0).to_device(device)
        };
        let (trained, running) = (join(&trained).set_requires_grad(true), join(&running));
        Self { parameters, trained, running }
    }

    /// Takes over what `pretrained` has, by name. What it does not have, such as the last layer, stays as it is; a
    /// kernel or normalisation of another shape, or a file without any, is an error.
    pub(crate) fn load(&mut self, pretrained: &Pretrained) -> Result<()> {
        let mut found = 0;
        let views = self.views(&self.trained.detach(), &self.running);
        for (parameter, view) in self.parameters.iter().zip(views) {
            let Some(values) = pretrained.tensors.get(&parameter.name) else { continue };
            // The last layer of an ImageNet network has 1000 outputs.
            if parameter.name.starts_with("classifier") && values.size() != parameter.shape {
                continue;
            }
            ensure!(
                values.size() == parameter.shape,
                "{}: {} has shape {:?}, expected {:?}",
                pretrained.path.display(),
                parameter.name,
                values.size(),
                parameter.shape
            );
            let mut view = view;
            no_grad(|| view.copy_(values));
            found += 1;
        }
        ensure!(
            found > 0,
            "{}: none of its tensors belongs to this network; expected the names of torchvision's mobilenet_v2",
            pretrained.path.display()
        );
        Ok(())
    }

    /// One view for each parameter, with its shape.
    pub(crate) fn views(&self, trained: &Tensor, running: &Tensor) -> Vec<Tensor> {
        let sizes = |trained: bool| -> Vec<i64> {
            self.parameters.iter().filter(|one| one.role.is_trained() == trained).map(Parameter::size).collect()
        };
        let mut trained = trained.split_with_sizes(&sizes(true)[..], 0).into_iter();
        let mut running = running.split_with_sizes(&sizes(false)[..], 0).into_iter();
        let view = |parameter: &Parameter| {
            let part = if parameter.role.is_trained() { trained.next() } else { running.next() };
            let part = part.expect("the tensor was split by these very parameters");
            match (parameter.role, &parameter.shape[..]) {
                (Role::Kernel, &[o, i, h, w]) => part.view([o, h, w, i]).permute([0, 3, 1, 2]),
                (_, shape) => part.view(shape),
            }
        };
        self.parameters.iter().map(view).collect()
    }

    /// Name, shape and values of every parameter, kernels as `[outputs, inputs, height, width]`.
    pub(crate) fn values(&self, state: &State) -> HashMap<String, Vec<f32>> {
        let views = self.views(&state.trained, &state.running);
        let value = |(parameter, view): (&Parameter, Tensor)| {
            let view = view.to_device(Device::Cpu).contiguous().view(-1);
            let values = Vec::<f32>::try_from(&view).expect("the tensors are one-dimensional and of 32-bit floats");
            (parameter.name.clone(), values)
        };
        self.parameters.iter().zip(views).map(value).collect()
    }

    /// Writes the numbers with torchvision's names.
    pub(crate) fn write(&self, path: &Path, state: &State) -> Result<()> {
        let views: Vec<Tensor> =
            self.views(&state.trained, &state.running).into_iter().map(|view| view.contiguous()).collect();
        let named: Vec<(&str, &Tensor)> =
            self.parameters.iter().zip(&views).map(|(parameter, view)| (parameter.name.as_str(), view)).collect();
        write_tensors(path, &named)
    }

    /// A vector as long as `trained` that holds `value(parameter)` for the numbers of each parameter.
    pub(crate) fn spread(&self, value: impl Fn(&Parameter) -> f64) -> Tensor {
        let device = self.trained.device();
        let part = |one: &Parameter| Tensor::full([one.size()], value(one), (Kind::Float, device));
        Tensor::cat(&self.parameters.iter().filter(|one| one.role.is_trained()).map(part).collect::<Vec<_>>(), 0)
    }
}

/// A file of pretrained weights, and the conventions that it was trained with.
pub(crate) struct Pretrained {
    path: PathBuf,
    tensors: HashMap<String, Tensor>,
    /// Added to the variance in its batch normalisations.
    pub(crate) epsilon: f64,
    /// Its input is `(byte / 255 − mean) / std`.
    pub(crate) mean: [f32; 3],
    /// See `mean`.
    pub(crate) std: [f32; 3],
}

impl Pretrained {
    /// Reads a `.safetensors` file.
    ///
    /// torchvision's own files hold the last layer of ImageNet; they use an epsilon of 1e-5 and the mean and deviation
    /// of ImageNet. A file without it is taken as converted from Keras: 1e-3, and input from -1 to 1.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        ensure!(
            path.extension().is_some_and(|end| end == "safetensors"),
            "{}: expected a file .safetensors; docs/guide/train-a-model.md shows how to convert a .pth",
            path.display()
        );
        let tensors: HashMap<String, Tensor> = read_tensors(path)?.into_iter().collect();
        let torchvision = tensors.get("classifier.1.weight").is_some_and(|head| head.size() == [1000, 1280]);
        let (epsilon, mean, std) =
            if torchvision { (1e-5, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]) } else { (1e-3, [0.5; 3], [0.5; 3]) };
        Ok(Self { path: path.to_owned(), tensors, epsilon, mean, std })
    }
}

/// Reads a `.safetensors` file.
pub(crate) fn read_tensors(path: &Path) -> Result<Vec<(String, Tensor)>> {
    // Opened first: the library's own message for a missing file does not name it.
    File::open(path).with_context(|| format!("{}", path.display()))?;
    Tensor::read_safetensors(path).with_context(|| format!("{}: not a safetensors file", path.display()))
}

/// Writes a `.safetensors` file aside, syncs it and renames it: the old one is there until the new one is whole.
pub(crate) fn write_tensors(path: &Path, tensors: &[(&str, &Tensor)]) -> Result<()> {
    let aside = path.with_extension("partial");
    let failed = || format!("{}: cannot be written", path.display());
    Tensor::write_safetensors(tensors, &aside).with_context(failed)?;
    File::open(&aside).and_then(|file| file.sync_all()).with_context(failed)?;
    std::fs::rename(&aside, path).with_context(failed)
}
