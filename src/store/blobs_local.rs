//! Blobs as files of a folder.
//!
//! A file is written beside its place under a name no blob can have, brought to
//! disk and then renamed, so a kill leaves the old file or the new one. An
//! append that is killed may leave a torn last line: only logs are appended to.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use uuid::Uuid;

use super::blobs::BlobError;
use super::local::private_folder;

/// Blobs in a folder, made by the first write.
#[derive(Clone, Debug)]
pub struct LocalBlobs {
    folder: PathBuf,
}

impl LocalBlobs {
    /// Keeps blobs in `folder`.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub(super) async fn put(&self, name: &str, bytes: Bytes) -> Result<(), BlobError> {
        let path = self.folder.join(name);
        blocking(move || replace(&path, &bytes)).await
    }

    pub(super) async fn get(&self, name: &str) -> Result<Option<Bytes>, BlobError> {
        let path = self.folder.join(name);
        blocking(move || found(fs::read(&path).map(Bytes::from))).await
    }

    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<String>, BlobError> {
        let (folder, prefix) = (self.folder.clone(), prefix.to_owned());
        blocking(move || {
            let mut names = Vec::new();
            walk(&folder, "", &mut names)?;
            names.retain(|name| name.starts_with(&prefix));
            names.sort();
            Ok(names)
        })
        .await
    }

    pub(super) async fn append(&self, name: &str, bytes: Bytes) -> Result<(), BlobError> {
        let path = self.folder.join(name);
        blocking(move || {
            make_folder_of(&path)?;
            let mut file = OpenOptions::new().append(true).create(true).open(&path)?;
            file.write_all(&bytes)?;
            file.sync_data()
        })
        .await
    }

    pub(super) async fn delete(&self, name: &str) -> Result<(), BlobError> {
        let path = self.folder.join(name);
        blocking(move || found(fs::remove_file(&path)).map(|_gone_now_or_before| ())).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, BlobError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other);
    done.flatten().map_err(BlobError::Folder)
}

fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn make_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), private_folder)
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    make_folder_of(path)?;
    let beside = path.with_file_name(format!(".{}", Uuid::new_v4()));
    let written = File::create_new(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    if let Err(error) = written.and_then(|()| fs::rename(&beside, path)) {
        // What cannot be removed either is never listed.
        found(fs::remove_file(&beside)).unwrap_or_default();
        return Err(error);
    }
    // A rename lasts once its folder is on disk.
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Adds the names below `folder`, which is `above` in the names.
fn walk(folder: &Path, above: &str, names: &mut Vec<String>) -> io::Result<()> {
    let Some(entries) = found(fs::read_dir(folder))? else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let Ok(part) = entry.file_name().into_string() else { continue };
        if part.starts_with('.') {
            continue;
        }
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), &format!("{above}{part}/"), names)?;
        } else {
            names.push(format!("{above}{part}"));
        }
    }
    Ok(())
}
