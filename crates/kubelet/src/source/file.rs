//! Static pods from a folder (or one file) of manifests (pkg/kubelet/config/file.go, common.go). Tells of changes, decides nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use api::core::v1::Pod;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::runtime::labels::{CONFIG_HASH, CONFIG_SEEN, CONFIG_SOURCE};

/// The folder is looked at so often: a cheap stat of each file; `fileCheckFrequency` bounds it from above.
const POLL: Duration = Duration::from_secs(1);

/// Sends the whole list whenever it changes, and once at the start.
pub async fn watch(path: PathBuf, node_name: String, every: Duration, out: mpsc::Sender<Vec<Pod>>) {
    let mut ticks = tokio::time::interval(POLL.min(every));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last: Option<Vec<(PathBuf, u64, i64)>> = None;
    loop {
        ticks.tick().await;
        let stamps = match stamps(&path) {
            Ok(stamps) => stamps,
            Err(error) => {
                // An absent folder has no pods; anything else leaves what is known as it is.
                if error.kind() != std::io::ErrorKind::NotFound {
                    tracing::warn!(path = %path.display(), %error, "the static pod manifests cannot be listed");
                    continue;
                }
                Vec::new()
            }
        };
        if last.as_ref() == Some(&stamps) {
            continue;
        }
        let pods = stamps.iter().filter_map(|(file, ..)| read(file, &node_name)).collect();
        last = Some(stamps);
        if out.send(pods).await.is_err() {
            return;
        }
    }
}

/// Each manifest with its size and time of change, in order of names.
fn stamps(path: &Path) -> std::io::Result<Vec<(PathBuf, u64, i64)>> {
    use std::os::unix::fs::MetadataExt;
    let stamp = |file: PathBuf| -> Option<(PathBuf, u64, i64)> {
        let meta = std::fs::metadata(&file).ok()?;
        meta.is_file().then(|| (file, meta.len(), meta.mtime() * 1_000_000_000 + meta.mtime_nsec()))
    };
    if std::fs::metadata(path)?.is_file() {
        return Ok(stamp(path.to_owned()).into_iter().collect());
    }
    let entries = std::fs::read_dir(path)?.filter_map(Result::ok).map(|entry| entry.path());
    let visible = |file: &PathBuf| file.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.'));
    let mut out: Vec<_> = entries.filter(visible).filter_map(stamp).collect();
    out.sort();
    Ok(out)
}

/// A file that is no pod is left out with a warning: the others must still run.
fn read(file: &Path, node_name: &str) -> Option<Pod> {
    let parsed = std::fs::read_to_string(file).map_err(|error| error.to_string()).and_then(|text| parse(&text, node_name));
    match parsed {
        Ok(pod) => Some(pod),
        Err(cause) => {
            tracing::error!(file = %file.display(), cause, "a static pod manifest cannot be used");
            None
        }
    }
}

/// The manifest as this node's pod: name with the node's, namespace, UID by contents, tolerating everything.
fn parse(text: &str, node_name: &str) -> Result<Pod, String> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let value: serde_json::Value = serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())?;
    if value["kind"] != "Pod" || value["apiVersion"] != "v1" {
        return Err(format!("it is a {} of {}, not a Pod of v1", value["kind"], value["apiVersion"]));
    }
    let mut pod: Pod = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let name = pod.metadata.name.clone().filter(|name| !name.is_empty()).ok_or("metadata.name: Required value")?;
    if pod.spec.as_ref().is_none_or(|spec| spec.containers.is_empty()) {
        return Err("spec.containers: Required value".into());
    }
    let hash = Sha256::digest(format!("{node_name}\n{text}"));
    let hash: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    pod.metadata.uid = Some(hash.clone());
    pod.metadata.name = Some(format!("{name}-{node_name}"));
    pod.metadata.namespace.get_or_insert_with(|| "default".into());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(CONFIG_HASH.into(), hash);
    annotations.insert(CONFIG_SOURCE.into(), "file".into());
    annotations.insert(CONFIG_SEEN.into(), base::clock::now().to_string());
    set_defaults(&mut pod, node_name);
    Ok(pod)
}

/// What the API server would have set; the kubelet must, because these pods never pass it.
fn set_defaults(pod: &mut Pod, node_name: &str) {
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(node_name.to_owned());
    spec.restart_policy.get_or_insert_with(|| "Always".into());
    spec.dns_policy.get_or_insert_with(|| "ClusterFirst".into());
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.enable_service_links.get_or_insert(true);
    spec.security_context.get_or_insert_default();
    spec.scheduler_name.get_or_insert_with(|| "default-scheduler".into());
    spec.tolerations.get_or_insert_default().push(api::core::v1::Toleration {
        operator: Some("Exists".into()),
        effect: Some("NoExecute".into()),
        ..Default::default()
    });
    let host_network = spec.host_network.unwrap_or(false);
    let init = spec.init_containers.iter_mut().flatten();
    for container in init.chain(spec.containers.iter_mut()) {
        let image = container.image.clone().unwrap_or_default();
        let latest = crate::pod::images::with_default_tag(&image).is_some_and(|name| name.ends_with(":latest"));
        container.image_pull_policy.get_or_insert_with(|| if latest { "Always" } else { "IfNotPresent" }.into());
        container.termination_message_path.get_or_insert_with(|| "/dev/termination-log".into());
        container.termination_message_policy.get_or_insert_with(|| "File".into());
        for port in container.ports.iter_mut().flatten() {
            port.protocol.get_or_insert_with(|| "TCP".into());
            if host_network {
                port.host_port.get_or_insert(port.container_port);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers: [{name: a, image: 'b'}]\n";
        let pod = parse(text, "node").unwrap();
        assert_eq!(pod.metadata.name.as_deref(), Some("web-node"));
        assert_eq!(pod.metadata.namespace.as_deref(), Some("default"));
        assert!(crate::pod::is_static(&pod));
        assert_eq!(pod.spec.as_ref().unwrap().containers[0].image_pull_policy.as_deref(), Some("Always"));
        assert_eq!(parse(text, "node").unwrap().metadata.uid, pod.metadata.uid);
        assert_ne!(parse(&text.replace("'b'", "'c'"), "node").unwrap().metadata.uid, pod.metadata.uid);
        assert!(parse("kind: Service\napiVersion: v1", "node").is_err());
        assert!(parse("][", "node").is_err());
        assert!(parse("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: []}", "node").is_err());
    }
}
