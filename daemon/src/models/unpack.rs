//! Unpacking a bundle from a tar file that comes from outside: plain files in the folder, and nothing else.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path};

use tar::{Archive, EntryType};

/// A bundle of all precisions takes about 25 MB.
pub(super) const MOST_BYTES: u64 = 256 << 20;
const MOST_FILES: usize = 1000;
const LONGEST_PATH: usize = 200;

/// Unpacks a tar file into `folder`, which is empty. It may hold folders and regular files with plain paths; a link, a device or
/// a path that leads elsewhere is refused. What was unpacked before is left there.
pub fn unpack(archive: impl Read, folder: &Path) -> Result<(), String> {
    let unreadable = |error: io::Error| format!("the archive cannot be read: {error}");
    let mut archive = Archive::new(archive.take(MOST_BYTES + (1 << 20)));
    let (mut bytes, mut files) = (0, 0);
    // Raw: extensions with long names would be read into memory, whatever their length.
    for entry in archive.entries().map_err(unreadable)?.raw(true) {
        let mut entry = entry.map_err(unreadable)?;
        files += 1;
        bytes += entry.size();
        if files > MOST_FILES || bytes > MOST_BYTES {
            let most = MOST_BYTES >> 20;
            return Err(format!("the archive holds more than {MOST_FILES} files or {most} MiB: that is no model"));
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path = Path::new(&name);
        let kind = entry.header().entry_type();
        match kind {
            // Times and owners in more detail than anybody needs here.
            EntryType::XHeader | EntryType::XGlobalHeader => continue,
            EntryType::Regular | EntryType::Directory => {}
            _ => return Err(format!("{name:?} in the archive is neither a file nor a folder")),
        }
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
        if name.len() > LONGEST_PATH || name.contains('\0') || !path.components().all(plain) {
            return Err(format!("{name:?} in the archive is no plain path in a bundle"));
        }
        let target = folder.join(path);
        let failed = |error: io::Error| format!("{}: {error}", target.display());
        if kind == EntryType::Directory {
            fs::create_dir_all(&target).map_err(failed)?;
            continue;
        }
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        // A second file of this name would replace the first.
        let mut file = File::create_new(&target).map_err(failed)?;
        let copied = io::copy(&mut entry, &mut file).map_err(failed)?;
        if copied != entry.size() {
            return Err(format!("{name:?} in the archive ends too early"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use tar::{Builder, Header};

    use super::*;

    fn entry(archive: &mut Builder<Vec<u8>>, kind: EntryType, name: &[u8], content: &[u8], size: Option<u64>) {
        let mut header = Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(kind);
        header.set_size(size.unwrap_or(content.len() as u64));
        header.set_mode(0o644);
        if kind == EntryType::Symlink {
            header.set_link_name("/etc").unwrap();
        }
        header.set_cksum();
        archive.append(&header, content).unwrap();
    }

    fn unpacked(archive: Vec<u8>) -> (Result<(), String>, tempfile::TempDir) {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("slot");
        fs::create_dir(&folder).unwrap();
        let done = unpack(archive.as_slice(), &folder);
        let beside: Vec<_> = fs::read_dir(outer.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(beside, ["slot"], "nothing is written beside the slot");
        (done, outer)
    }

    fn refusal(kind: EntryType, name: &[u8], content: &[u8], size: Option<u64>) -> String {
        let mut archive = Builder::new(Vec::new());
        entry(&mut archive, kind, name, content, size);
        unpacked(archive.into_inner().unwrap()).0.unwrap_err()
    }

    #[test]
    fn files_and_folders_are_unpacked() {
        let mut archive = Builder::new(Vec::new());
        entry(&mut archive, EntryType::Directory, b"selftest/", b"", None);
        entry(&mut archive, EntryType::Regular, b"./manifest.yaml", b"format: 1", None);
        entry(&mut archive, EntryType::Regular, b"selftest/a.png", b"png", None);
        let (done, outer) = unpacked(archive.into_inner().unwrap());
        done.unwrap();
        assert_eq!(fs::read(outer.path().join("slot/manifest.yaml")).unwrap(), b"format: 1");
        assert_eq!(fs::read(outer.path().join("slot/selftest/a.png")).unwrap(), b"png");
    }

    #[test]
    fn what_leads_elsewhere_or_is_no_file_is_refused() {
        for name in ["../evil", "/etc/evil", "a/../../evil"] {
            assert!(refusal(EntryType::Regular, name.as_bytes(), b"x", None).contains("no plain path"), "{name}");
        }
        for kind in [EntryType::Symlink, EntryType::Link, EntryType::Char, EntryType::Fifo, EntryType::GNULongName] {
            assert!(refusal(kind, b"evil", b"", None).contains("neither a file nor a folder"), "{kind:?}");
        }
        // A file under a link that came before it: the link is refused already.
        let mut archive = Builder::new(Vec::new());
        entry(&mut archive, EntryType::Regular, b"a", b"1", None);
        entry(&mut archive, EntryType::Regular, b"a", b"2", None);
        assert!(unpacked(archive.into_inner().unwrap()).0.unwrap_err().contains("exists"));
    }

    #[test]
    fn bombs_are_refused_by_what_they_claim() {
        assert!(refusal(EntryType::Regular, b"big", b"", Some(1 << 40)).contains("no model"));
        let mut archive = Builder::new(Vec::new());
        for number in 0..=MOST_FILES {
            entry(&mut archive, EntryType::Directory, format!("{number}/").as_bytes(), b"", None);
        }
        assert!(unpacked(archive.into_inner().unwrap()).0.unwrap_err().contains("no model"));
        let cut = refusal(EntryType::Regular, b"short", b"x", Some(5000));
        assert!(cut.contains("short") || cut.contains("cannot be read"), "{cut}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// Archives that are nearly right: random bytes are hardly ever one.
        #[test]
        fn any_archive_is_unpacked_into_the_slot_or_refused(
            entries in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..40), prop::collection::vec(any::<u8>(), 0..600)), 0..8),
            spoilt in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            end in any::<prop::sample::Index>(),
        ) {
            let mut archive = Builder::new(Vec::new());
            for (kind, name, content) in &entries {
                entry(&mut archive, EntryType::new(*kind), name, content, None);
            }
            let mut bytes = archive.into_inner().unwrap();
            for (at, byte) in spoilt {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(end.index(bytes.len()) + 1);
            let _ = unpacked(bytes);
        }
    }
}
