//! The program itself, as a file.

use std::io::{self, Read as _};

use aws_lc_rs::digest::{Context, SHA256};
use tokio::sync::OnceCell;
use tracing::warn;

use crate::domain::hash::Hash;

/// Read at once.
const PIECE: usize = 256 * 1024;

/// The file does not change under a process that runs from it.
static DIGEST: OnceCell<Option<Hash>> = OnceCell::const_new();

/// The SHA-256 of the running program's file; `None` if it cannot be read.
/// Computed once a process, when first asked for, where blocking is allowed:
/// some 16 MB take tens of milliseconds, which a start must not.
pub async fn digest() -> Option<Hash> {
    let compute = async || match tokio::task::spawn_blocking(of_this_program).await {
        Ok(Ok(hash)) => hash,
        Ok(Err(error)) => {
            warn!(%error, "the program's file cannot be read; records go without its digest");
            None
        }
        Err(_panicked) => None,
    };
    *DIGEST.get_or_init(compute).await
}

fn of_this_program() -> io::Result<Option<Hash>> {
    let mut file = std::fs::File::open(std::env::current_exe()?)?;
    let mut context = Context::new(&SHA256);
    let mut piece = vec![0; PIECE];
    loop {
        let read = file.read(&mut piece)?;
        match piece.get(..read) {
            Some(bytes) if !bytes.is_empty() => context.update(bytes),
            Some(_) | None => return Ok(Hash::from_bytes(context.finish().as_ref())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_the_hash_of_the_file_that_runs() {
        let whole = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(digest().await, Some(Hash::of(&whole)));
    }
}
