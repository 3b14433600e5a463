//! One suite for every place blobs are kept in.

use bytes::Bytes;
use defender_alert_export::store::{BlobError, Blobs, LocalBlobs};

use super::{azurite, container, folder};

async fn held(blobs: &Blobs, name: &str) -> Option<Bytes> {
    blobs.get(name).await.unwrap()
}

/// What every arm of [`Blobs`] does.
pub(super) async fn conforms(blobs: &Blobs) {
    assert_eq!(held(blobs, "nothing").await, None);
    assert_eq!(blobs.list("").await.unwrap(), [""; 0]);
    blobs.delete("nothing").await.unwrap();

    blobs.put("quarantine/a.json", Bytes::from_static(b"first")).await.unwrap();
    blobs.put("quarantine/a.json", Bytes::from_static(b"second")).await.unwrap();
    blobs.put("quarantine/deep/b~+=@:c.json", Bytes::new()).await.unwrap();
    blobs.put("other", Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(held(blobs, "quarantine/a.json").await.as_deref(), Some(&b"second"[..]));
    assert_eq!(held(blobs, "quarantine/deep/b~+=@:c.json").await.as_deref(), Some(&b""[..]));
    let large: Bytes = (0..=255).cycle().take(9 * 1024 * 1024 + 1).collect::<Vec<u8>>().into();
    blobs.put("large", large.clone()).await.unwrap();
    assert!(held(blobs, "large").await == Some(large), "9 MiB come back whole");

    let quarantined = ["quarantine/a.json", "quarantine/deep/b~+=@:c.json"];
    assert_eq!(blobs.list("quarantine/").await.unwrap(), quarantined);
    assert_eq!(blobs.list("quarantine/d").await.unwrap(), quarantined[1..]);
    assert_eq!(blobs.list("").await.unwrap(), [&["large", "other"], &quarantined[..]].concat());

    for line in ["one\n", "two\n", "three\n"] {
        blobs.append("logs/2026-11-21.log", Bytes::from(line)).await.unwrap();
    }
    let log = held(blobs, "logs/2026-11-21.log").await;
    assert_eq!(log.as_deref(), Some(&b"one\ntwo\nthree\n"[..]));
    let (a, b) = ("race", Bytes::from_static(b"x"));
    let (one, other) = tokio::join!(blobs.append(a, b.clone()), blobs.append(a, b.clone()));
    one.and(other).unwrap();
    assert_eq!(held(blobs, "race").await.as_deref(), Some(&b"xx"[..]), "no append is lost");

    blobs.delete("quarantine/a.json").await.unwrap();
    assert_eq!(held(blobs, "quarantine/a.json").await, None);
    let outside = blobs.put("../outside", Bytes::new()).await;
    assert!(matches!(outside, Err(BlobError::BadName)), "{outside:?}");
}

#[tokio::test]
async fn a_folder_conforms() {
    conforms(&Blobs::Local(LocalBlobs::new(folder()))).await;
}

#[tokio::test]
async fn a_container_conforms() {
    let Some(address) = azurite("AZURITE_BLOB") else { return };
    conforms(&container(&address).0).await;
}
