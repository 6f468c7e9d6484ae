//! The numbers of a network: all trained ones in one tensor, all running statistics in another.
//!
//! One tensor makes the optimizer, the moving average and a checkpoint a handful of operations, however many layers
//! there are. A network sees views of it. Kernels lie channels-last, which libtorch computes fastest with.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail};
use tch::{Device, Kind, Tensor, no_grad};

use super::{Conventions, Pretrained};
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
    /// Random kernels (He et al. 2015, fan out) and matrices, scales of 1, everything else 0.
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
                // The answer starts at nearly 0; numbers in between keep their size.
                Role::Matrix if parameter.shape[0] == 1 => Tensor::randn([length], options) * 0.01,
                Role::Matrix => Tensor::randn([length], options) * (1.0 / parameter.shape[1] as f64).sqrt(),
                Role::Scale | Role::RunningVariance => Tensor::ones([length], options),
                Role::Shift | Role::RunningMean => Tensor::zeros([length], options),
            }
        };
        let (trained, running): (Vec<_>, Vec<_>) = parameters.iter().partition(|one| one.role.is_trained());
        let join = |all: &[&Parameter]| {
            // The empty part stands for a network without normalisations, which has nothing that runs.
            let none = Tensor::zeros([0], (Kind::Float, Device::Cpu));
            let parts: Vec<Tensor> =
                std::iter::once(none).chain(all.iter().map(|parameter| start(parameter))).collect();
            Tensor::cat(&parts, 0).to_device(device)
        };
        let (trained, running) = (join(&trained).set_requires_grad(true), join(&running));
        Self { parameters, trained, running }
    }

    /// A network with these numbers, by parameter name.
    pub(crate) fn of(network: &Network, values: &HashMap<String, Vec<f32>>, device: Device) -> Result<Self> {
        let weights = Self::random(network, device, 0);
        let views = weights.views(&weights.trained.detach(), &weights.running);
        for (parameter, mut view) in weights.parameters.iter().zip(views) {
            let values = values.get(&parameter.name).filter(|values| values.len() as i64 == parameter.size());
            let values =
                values.with_context(|| format!("{}: expected {:?} numbers", parameter.name, parameter.shape))?;
            no_grad(|| view.copy_(&Tensor::from_slice(values).view(&parameter.shape[..])));
        }
        Ok(weights)
    }

    /// The numbers of a training of this very network, as [`Weights::write`] left them.
    pub(crate) fn trained(network: &Network, file: &Pretrained, device: Device) -> Result<Self> {
        let mut weights = Self::random(network, device, 0);
        weights.load(file, |_| true)?;
        Ok(weights)
    }

    /// The same numbers, which nothing moves.
    pub(crate) fn copy(&self) -> Self {
        let (trained, running) = (self.trained.detach().copy(), self.running.copy());
        Self { parameters: self.parameters.clone(), trained, running }
    }

    /// A network with the pretrained weights; what they do not have, such as the last layer, is fresh.
    pub(crate) fn start(network: &Network, pretrained: &Pretrained, device: Device, seed: u64) -> Result<Self> {
        let mut weights = Self::random(network, device, seed as i64);
        weights.load(pretrained, |name| name.starts_with("features."))?;
        Ok(weights)
    }

    /// Takes over what `pretrained` has, by name. What `must_be_there` must be so in the right shape; the others stay as they are
    /// when the file has none that fits.
    fn load(&mut self, pretrained: &Pretrained, must_be_there: impl Fn(&str) -> bool) -> Result<()> {
        let views = self.views(&self.trained.detach(), &self.running);
        for (parameter, mut view) in self.parameters.iter().zip(views) {
            let values = pretrained.tensors.get(&parameter.name);
            match values.filter(|values| values.size() == parameter.shape) {
                Some(values) => no_grad(|| view.copy_(values)),
                None if !must_be_there(&parameter.name) => {}
                None => bail!(
                    "{}: {} {}, expected {:?}; these are the weights of another network",
                    pretrained.path.display(),
                    parameter.name,
                    values.map_or("is missing".into(), |values| format!("has shape {:?}", values.size())),
                    parameter.shape
                ),
            }
        }
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

    /// Name and values of every parameter, kernels as `[outputs, inputs, height, width]`.
    pub(crate) fn values(&self) -> HashMap<String, Vec<f32>> {
        let views = self.views(&self.trained.detach(), &self.running);
        let value = |(parameter, view): (&Parameter, Tensor)| {
            let view = view.to_device(Device::Cpu).contiguous().view(-1);
            let values = Vec::<f32>::try_from(&view).expect("the tensors are one-dimensional and of 32-bit floats");
            (parameter.name.clone(), values)
        };
        self.parameters.iter().zip(views).map(value).collect()
    }

    /// Writes the numbers with torchvision's names, and the conventions that they were trained with.
    pub(crate) fn write(&self, path: &Path, conventions: Conventions) -> Result<()> {
        let views: Vec<Tensor> =
            self.views(&self.trained.detach(), &self.running).into_iter().map(|view| view.contiguous()).collect();
        let conventions = conventions.to_tensors();
        let named = self.parameters.iter().zip(&views).map(|(parameter, view)| (parameter.name.as_str(), view));
        let conventions = conventions.iter().map(|(name, values)| (*name, values));
        write_tensors(path, &named.chain(conventions).collect::<Vec<_>>())
    }

    /// A vector as long as `trained` that holds `value(parameter)` for the numbers of each parameter.
    pub(crate) fn spread(&self, value: impl Fn(&Parameter) -> f64) -> Tensor {
        let device = self.trained.device();
        let part = |one: &Parameter| Tensor::full([one.size()], value(one), (Kind::Float, device));
        Tensor::cat(&self.parameters.iter().filter(|one| one.role.is_trained()).map(part).collect::<Vec<_>>(), 0)
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
