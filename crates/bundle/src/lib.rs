//! The model bundle: the only thing that passes between the workstation and the kiosk.
//!
//! A bundle is a folder with `manifest.yaml`, the network in one or more precisions, a self-test and a model card.
//! [`Bundle::open`] reads the manifest, and checks the hash of a file before it is used; [`write_bundle`] makes one. The
//! fields are described in docs/reference/bundle.md, from these types.

mod hash;
mod manifest;
mod operating_point;
mod read;
mod signature;
mod write;

pub use hash::Sha256;
pub use manifest::{
    FORMAT_VERSION, FileEntry, Input, Manifest, Metric, ModelFile, Output, OutputKind, Precision, SelfTest, Task,
    TensorRtFile, Training,
};
pub use operating_point::{OperatingPoint, Verdict};
pub use read::{Bundle, BundleError, MANIFEST};
pub use signature::{SIGNATURE, read_public_key, verify_signature};
pub use write::{remove_if_there, sync_all, write_bundle, write_file};
