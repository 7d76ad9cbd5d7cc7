//! Images: the two that the binary builds by itself (pause, busybox) and importing OCI archives. Must never reach for a registry.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::json;
use sha2::{Digest, Sha256};

/// The sandbox image of every pod.
pub const PAUSE: &str = "oxikube.io/pause:1";
/// The image of the examples: Debian's static busybox with its applets.
pub const BUSYBOX: &str = "oxikube.io/busybox:1";

const PAUSE_PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pause"));
const BUSYBOX_PATHS: &[&str] = &["/bin/busybox", "/usr/bin/busybox"];

/// One file or folder of a layer.
enum Entry<'a> {
    Folder(&'a str, u32),
    File(&'a str, u32, &'a [u8]),
    Link(String, &'a str),
}

/// An OCI archive (image-spec v1.1 layout in a tar) with one uncompressed layer.
fn archive(name: &str, entries: &[Entry<'_>], config: serde_json::Value) -> Result<Vec<u8>> {
    let layer = layer(entries)?;
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = serde_json::to_vec(&json!({
        "architecture": architecture, "os": "linux", "config": config,
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
    }))?;
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    }))?;
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["annotations"] = json!({ "io.containerd.image.name": name, "org.opencontainers.image.ref.name": name });
    entry["platform"] = json!({ "architecture": architecture, "os": "linux" });
    let index = serde_json::to_vec(&json!({ "schemaVersion": 2, "manifests": [entry] }))?;
    let mut tar = tar::Builder::new(Vec::new());
    append(&mut tar, "oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    append(&mut tar, "index.json", 0o644, &index)?;
    for blob in [&layer, &config, &manifest] {
        append(&mut tar, &format!("blobs/sha256/{}", hex::encode(Sha256::digest(blob))), 0o644, blob)?;
    }
    Ok(tar.into_inner()?)
}

fn layer(entries: &[Entry<'_>]) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for entry in entries {
        match entry {
            Entry::File(path, mode, content) => append(&mut tar, path, *mode, content)?,
            Entry::Folder(path, mode) => {
                let mut header = header(*mode, 0);
                header.set_entry_type(tar::EntryType::Directory);
                tar.append_data(&mut header, path, std::io::empty())?;
            }
            Entry::Link(path, target) => {
                let mut header = header(0o777, 0);
                header.set_entry_type(tar::EntryType::Symlink);
                tar.append_link(&mut header, path, target)?;
            }
        }
    }
    Ok(tar.into_inner()?)
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, content: &[u8]) -> Result<()> {
    let mut header = header(mode, content.len() as u64);
    tar.append_data(&mut header, path, content).with_context(|| format!("adding {path} to an archive"))
}

fn header(mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header
}

fn digest(blob: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(blob)))
}

fn descriptor(media_type: &str, blob: &[u8]) -> serde_json::Value {
    json!({ "mediaType": media_type, "digest": digest(blob), "size": blob.len() })
}

fn pause_archive() -> Result<Vec<u8>> {
    let config = json!({ "Entrypoint": ["/pause"], "User": "65535:65535" });
    archive(PAUSE, &[Entry::File("pause", 0o755, PAUSE_PROGRAM)], config)
}

/// A root folder with a static busybox and a link per applet.
fn busybox_archive() -> Result<Vec<u8>> {
    let path = BUSYBOX_PATHS
        .iter()
        .map(Path::new)
        .find(|path| path.exists())
        .context("no busybox on this host: install Debian's busybox-static")?;
    let program = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    if program.windows(11).any(|window| window == b"/lib64/ld-l") {
        bail!("{} is not static: install Debian's busybox-static", path.display());
    }
    let applets = std::process::Command::new(path).arg("--list").output().context("asking busybox for its applets")?;
    let applets = String::from_utf8(applets.stdout).context("busybox lists its applets in UTF-8")?;
    let mut entries = vec![
        Entry::Folder("bin", 0o755),
        Entry::Folder("etc", 0o755),
        Entry::Folder("tmp", 0o1777),
        Entry::Folder("root", 0o700),
        Entry::Folder("var", 0o755),
        Entry::Folder("home", 0o755),
        Entry::File("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n"),
        Entry::File("etc/group", 0o644, b"root:x:0:\nnobody:x:65534:\n"),
        Entry::File("bin/busybox", 0o755, &program),
    ];
    entries.extend(applets.lines().filter(|name| *name != "busybox").map(|name| Entry::Link(format!("bin/{name}"), "busybox")));
    archive(BUSYBOX, &entries, json!({ "Cmd": ["sh"], "Env": ["PATH=/bin:/sbin:/usr/bin:/usr/sbin"] }))
}

/// Builds the local images and imports them where `present` does not have them yet.
pub async fn load_built_in(socket: &Path, present: &[String]) -> Result<()> {
    let has = |name: &str| present.iter().any(|tag| tag == name);
    if !has(PAUSE) {
        import(socket, pause_archive()?).await.context("importing the pause image")?;
    }
    if !has(BUSYBOX) && BUSYBOX_PATHS.iter().any(|path| Path::new(path).exists()) {
        import(socket, busybox_archive()?).await.context("importing the busybox image")?;
    }
    Ok(())
}

/// Imports an OCI or Docker archive: `oxikube image load FILE.tar`.
pub async fn load_file(socket: &Path, file: &Path) -> Result<String> {
    let content = tokio::fs::read(file).await.with_context(|| format!("reading {}", file.display()))?;
    import(socket, content).await
}

async fn import(socket: &Path, content: Vec<u8>) -> Result<String> {
    use tokio::io::AsyncWriteExt;
    let mut child = tokio::process::Command::new("ctr")
        .arg("--address")
        .arg(socket)
        .args(["--namespace", "k8s.io", "images", "import", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("running ctr, containerd's own client: it comes with containerd")?;
    let mut stdin = child.stdin.take().context("ctr has a standard input")?;
    let feed = tokio::spawn(async move {
        let result = stdin.write_all(&content).await;
        drop(stdin);
        result
    });
    let output = child.wait_with_output().await.context("waiting for ctr")?;
    let fed = feed.await.context("feeding ctr")?;
    if !output.status.success() {
        bail!("ctr images import failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    fed.context("feeding ctr")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn the_pause_archive_is_an_oci_layout() {
        let bytes = pause_archive().unwrap();
        let mut names = Vec::new();
        let mut index = String::new();
        for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            if name == "index.json" {
                entry.read_to_string(&mut index).unwrap();
            }
            names.push(name);
        }
        assert!(names.iter().any(|name| name == "oci-layout"), "{names:?}");
        let index: serde_json::Value = serde_json::from_str(&index).unwrap();
        let digest = index["manifests"][0]["digest"].as_str().unwrap().replace(':', "/");
        assert!(names.contains(&format!("blobs/{digest}")), "{names:?}");
    }

    #[test]
    fn the_pause_program_is_a_small_static_elf() {
        assert_eq!(&PAUSE_PROGRAM[..4], b"\x7fELF");
        assert!(PAUSE_PROGRAM.len() < 16_384, "{} bytes", PAUSE_PROGRAM.len());
    }
}
