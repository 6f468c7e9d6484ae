//! Finding pictures in files and folders.

use std::path::{Path, PathBuf};

/// Why a path gives no pictures. The text is one line and names the path.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {cause}")]
pub struct NoPicture {
    /// The path.
    pub path: PathBuf,
    /// What is wrong with it.
    pub cause: String,
}

/// The pictures at `path`: the file itself, whatever its name, or every `.png`, `.jpg` and `.jpeg` file in the folder
/// and the folders in it, in the order of their names.
///
/// What cannot be read, such as a loop of symbolic links, is an error in its place; a folder without any picture is one
/// error.
pub fn find(path: &Path) -> Vec<Result<PathBuf, NoPicture>> {
    let wrong = |path: &Path, cause: String| NoPicture { path: path.to_owned(), cause };
    match path.metadata() {
        Err(error) => return vec![Err(wrong(path, error.to_string()))],
        Ok(found) if found.is_file() => return vec![Ok(path.to_owned())],
        Ok(found) if !found.is_dir() => return vec![Err(wrong(path, "it is neither a file nor a folder".into()))],
        Ok(_) => {}
    }
    let walk = walkdir::WalkDir::new(path).follow_links(true).sort_by_file_name();
    let pictures: Vec<_> = walk
        .into_iter()
        .filter_map(|entry| match entry {
            Ok(entry) if entry.file_type().is_file() && is_picture(entry.path()) => Some(Ok(entry.into_path())),
            Ok(_) => None,
            Err(error) => {
                let at = error.path().unwrap_or(path).to_owned();
                let cause = match error.loop_ancestor() {
                    Some(ancestor) => format!("a symbolic link leads back to {}", ancestor.display()),
                    None => error.io_error().map_or_else(|| error.to_string(), ToString::to_string),
                };
                Some(Err(wrong(&at, cause)))
            }
        })
        .collect();
    if pictures.is_empty() {
        return vec![Err(wrong(path, "the folder holds no .png, .jpg or .jpeg file".into()))];
    }
    pictures
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
    matches!(extension.as_deref(), Some("png" | "jpg" | "jpeg"))
}
