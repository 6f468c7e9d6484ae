//! Opening a bundle: nothing in it is used before its hash was checked.

use std::io;
use std::path::{Component, Path, PathBuf};

use crate::{FORMAT_VERSION, Manifest, ModelFile, Precision, Sha256, Task};

/// Name of the manifest in the folder of a bundle.
pub const MANIFEST: &str = "manifest.yaml";
/// A manifest is text about a handful of files; anything larger is not one.
pub(crate) const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// Why a bundle cannot be used. The text is one line and names the bundle.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// There is no such folder, or it holds no manifest.
    #[error("{bundle}: no model bundle here ({MANIFEST}: {cause})")]
    Missing {
        /// The folder.
        bundle: PathBuf,
        /// What the operating system said.
        cause: io::Error,
    },
    /// The manifest is not what docs/reference/bundle.md describes.
    #[error("{bundle}/{MANIFEST}: {fault}")]
    Manifest {
        /// The folder.
        bundle: PathBuf,
        /// What is wrong, with line and column where they are known.
        fault: String,
    },
    /// A file that the manifest names cannot be read.
    #[error("{bundle}: {file} is missing from the bundle or cannot be read ({cause}); install the bundle again")]
    File {
        /// The folder.
        bundle: PathBuf,
        /// Path in the bundle.
        file: String,
        /// What the operating system said.
        cause: io::Error,
    },
    /// A file was changed or damaged.
    #[error(
        "{bundle}: {file} is not the file that the manifest names (sha256 {}…, expected {}…); install the bundle again",
        .found.short(), .expected.short()
    )]
    Hash {
        /// The folder.
        bundle: PathBuf,
        /// Path in the bundle.
        file: String,
        /// Hash of the file on disk.
        found: Sha256,
        /// Hash in the manifest.
        expected: Sha256,
    },
    /// The bundle has no network of the precision asked for.
    #[error("{bundle}: has no {wanted} model; it has {available}")]
    Precision {
        /// The folder.
        bundle: PathBuf,
        /// What was asked for.
        wanted: Precision,
        /// What there is, as a list.
        available: String,
    },
    /// The bundle does something else than what is needed.
    #[error("{bundle}: is made to {found:?}, and a model to {wanted:?} is needed")]
    Task {
        /// The folder.
        bundle: PathBuf,
        /// What the bundle does.
        found: Task,
        /// What is needed.
        wanted: Task,
    },
}

/// An opened bundle whose files are all there. What one holds is checked when it is read.
#[derive(Clone, Debug)]
pub struct Bundle {
    folder: PathBuf,
    manifest: Manifest,
    sha256: Sha256,
}

impl Bundle {
    /// Reads the manifest in `folder`, and looks whether every file that it names is there. A kiosk uses a few of them, so
    /// that each is checked by [`Self::read_file`], and all at once only by [`Self::verify`].
    pub fn open(folder: &Path) -> Result<Self, BundleError> {
        let bundle = folder.to_owned();
        let fault = |fault: String| BundleError::Manifest { bundle: bundle.clone(), fault };
        let path = folder.join(MANIFEST);
        let missing = |cause| BundleError::Missing { bundle: bundle.clone(), cause };
        let length = path.metadata().map_err(missing)?.len();
        if length > MAX_MANIFEST_BYTES {
            return Err(fault(format!("{length} bytes are too many for a manifest")));
        }
        let text = std::fs::read(&path).map_err(missing)?;
        // The format is looked at first: a later format may have fields that this program does not know.
        let format: Format = serde_yaml::from_slice(&text).map_err(|error| fault(error.to_string()))?;
        if format.format != FORMAT_VERSION {
            let found = format.format;
            return Err(fault(format!("is bundle format {found}, and this program reads format {FORMAT_VERSION}")));
        }
        let manifest: Manifest = serde_yaml::from_slice(&text).map_err(|error| fault(error.to_string()))?;
        if let Some(found) = manifest.fault() {
            return Err(fault(found));
        }
        for (file, _) in manifest.all_files() {
            // A manifest names files of its own folder, whatever its author intended.
            if file.is_empty() || !Path::new(file).components().all(|part| matches!(part, Component::Normal(_))) {
                return Err(fault(format!("{file:?} is not a path inside the bundle")));
            }
            if let Err(cause) = folder.join(file).metadata() {
                return Err(BundleError::File { bundle, file: file.to_owned(), cause });
            }
        }
        Ok(Self { folder: bundle, manifest, sha256: Sha256::of(&text) })
    }

    /// Checks the hash of every file that the manifest names.
    pub fn verify(&self) -> Result<(), BundleError> {
        for (file, expected) in self.manifest.all_files() {
            let (bundle, file) = (self.folder.clone(), file.to_owned());
            match Sha256::of_file(&self.path_of(&file)) {
                Ok(found) if found == *expected => {}
                Ok(found) => return Err(BundleError::Hash { bundle, file, found, expected: expected.clone() }),
                Err(cause) => return Err(BundleError::File { bundle, file, cause }),
            }
        }
        Ok(())
    }

    /// What the manifest says.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Where the bundle is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The hash of the manifest, which stands for the whole bundle: it names the hash of every other file.
    pub fn sha256(&self) -> &Sha256 {
        &self.sha256
    }

    /// The full path of a file that the manifest names.
    pub fn path_of(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// The network of a precision.
    pub fn model(&self, precision: Precision) -> Result<&ModelFile, BundleError> {
        let models = &self.manifest.models;
        models.iter().find(|model| model.precision == precision).ok_or_else(|| BundleError::Precision {
            bundle: self.folder.clone(),
            wanted: precision,
            available: models.iter().map(|model| model.precision.to_string()).collect::<Vec<_>>().join(", "),
        })
    }

    /// The content of a network file, as its hash promises it also at this moment.
    pub fn read_model(&self, model: &ModelFile) -> Result<Vec<u8>, BundleError> {
        self.read_file(&model.path, &model.sha256)
    }

    /// The content of any file of the bundle, if it still has this hash.
    pub fn read_file(&self, file: &str, sha256: &Sha256) -> Result<Vec<u8>, BundleError> {
        let (bundle, path) = (self.folder.clone(), self.path_of(file));
        let file = file.to_owned();
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(cause) => return Err(BundleError::File { bundle, file, cause }),
        };
        let found = Sha256::of(&bytes);
        if found == *sha256 {
            Ok(bytes)
        } else {
            Err(BundleError::Hash { bundle, file, found, expected: sha256.clone() })
        }
    }

    /// Opens the bundle in `folder`, which must be made for `task`.
    pub fn open_for(folder: &Path, task: Task) -> Result<Self, BundleError> {
        let bundle = Self::open(folder)?;
        bundle.expect_task(task)?;
        Ok(bundle)
    }

    /// The same, and no file of it is damaged, used or not.
    pub fn open_whole(folder: &Path, task: Task) -> Result<Self, BundleError> {
        let bundle = Self::open_for(folder, task)?;
        bundle.verify()?;
        Ok(bundle)
    }

    /// Refuses a bundle that does something else than `task`.
    pub fn expect_task(&self, wanted: Task) -> Result<(), BundleError> {
        let found = self.manifest.task;
        if found == wanted { Ok(()) } else { Err(BundleError::Task { bundle: self.folder.clone(), found, wanted }) }
    }
}

#[derive(serde::Deserialize)]
struct Format {
    format: u32,
}
