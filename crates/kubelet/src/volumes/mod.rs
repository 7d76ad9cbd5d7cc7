//! Volumes of pods: set up before containers start, kept up to date while they run, taken down after.

pub mod atomic;
pub mod empty_dir;
pub mod host_path;
pub mod owner;
pub mod payload;
pub mod projected;
pub mod subpath;
pub mod tokens;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::core::v1::{Pod, Volume};

use crate::context::Context;
use crate::paths;
use crate::pod::{spec, uid};
use payload::Payload;

/// A volume that did not come up.
#[derive(Clone, Debug)]
pub struct VolumeError {
    pub volume: String,
    pub cause: String,
}

/// A volume on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountedVolume {
    pub path: PathBuf,
    /// Containers see it read-only, whatever their mount says.
    pub read_only: bool,
}

/// A pod's volumes by name.
#[derive(Clone, Debug, Default)]
pub struct Mounted(Arc<HashMap<String, MountedVolume>>);

impl Mounted {
    pub fn get(&self, name: &str) -> Option<&MountedVolume> {
        self.0.get(name)
    }
}

/// What is to be done on disk for one volume.
enum Job {
    EmptyDir { memory: bool, size_bytes: Option<u64> },
    HostPath { path: PathBuf, kind: String },
    Files { plugin: &'static str, memory: bool, payload: Payload },
}

/// Sets up every volume of the pod; called again, it brings changed contents to those that are up.
pub async fn set_up(context: &Context, pod: &Pod) -> Result<Mounted, VolumeError> {
    let mut out = HashMap::new();
    let volumes = spec(pod).volumes.as_deref().unwrap_or_default();
    let jobs = futures::future::try_join_all(volumes.iter().map(|volume| async move {
        let job = plan(context, pod, volume).await;
        job.map(|job| (volume.name.clone(), job)).map_err(|cause| VolumeError { volume: volume.name.clone(), cause })
    }))
    .await?;
    if jobs.is_empty() {
        return Ok(Mounted::default());
    }
    let (root, pod_uid) = (context.settings.root_dir.clone(), uid(pod).to_owned());
    let fs_group = spec(pod).security_context.as_ref().and_then(|context| context.fs_group);
    let on_mismatch =
        spec(pod).security_context.as_ref().and_then(|context| context.fs_group_change_policy.as_deref()) == Some("OnRootMismatch");
    let done = tokio::task::spawn_blocking(move || {
        for (name, job) in jobs {
            let mounted = run(&root, &pod_uid, &name, job, fs_group, on_mismatch);
            out.insert(name.clone(), mounted.map_err(|cause| VolumeError { volume: name, cause })?);
        }
        Ok(out)
    });
    let done = done.await.map_err(|error| VolumeError { volume: String::new(), cause: error.to_string() })?;
    Ok(Mounted(Arc::new(done?)))
}

async fn plan(context: &Context, pod: &Pod, volume: &Volume) -> Result<Job, String> {
    if let Some(source) = &volume.empty_dir {
        return empty_dir::plan(source);
    }
    if let Some(source) = &volume.host_path {
        return Ok(Job::HostPath { path: PathBuf::from(&source.path), kind: source.type_.clone().unwrap_or_default() });
    }
    if let Some(source) = &volume.config_map {
        let payload = projected::config_map(context, pod, source).await?;
        return Ok(Job::Files { plugin: "kubernetes.io/configmap", memory: false, payload });
    }
    if let Some(source) = &volume.secret {
        let payload = projected::secret(context, pod, source).await?;
        return Ok(Job::Files { plugin: "kubernetes.io/secret", memory: true, payload });
    }
    if let Some(source) = &volume.downward_api {
        let payload = projected::downward(context, pod, source)?;
        return Ok(Job::Files { plugin: "kubernetes.io/downward-api", memory: true, payload });
    }
    if let Some(source) = &volume.projected {
        let payload = projected::projected(context, pod, source).await?;
        return Ok(Job::Files { plugin: "kubernetes.io/projected", memory: true, payload });
    }
    Err(format!("no volume plugin matched: this kubelet does not support the volume type of {:?}", volume.name))
}

fn run(root: &Path, pod_uid: &str, name: &str, job: Job, fs_group: Option<i64>, on_mismatch: bool) -> Result<MountedVolume, String> {
    match job {
        Job::EmptyDir { memory, size_bytes } => {
            let path = paths::volume(root, pod_uid, "kubernetes.io/empty-dir", name);
            empty_dir::set_up(&path, memory, size_bytes).map_err(|error| error.to_string())?;
            owner::set_group(&path, fs_group, on_mismatch).map_err(|error| error.to_string())?;
            Ok(MountedVolume { path, read_only: false })
        }
        Job::HostPath { path, kind } => {
            host_path::check(&path, &kind)?;
            Ok(MountedVolume { path, read_only: false })
        }
        Job::Files { plugin, memory, payload } => {
            let path = paths::volume(root, pod_uid, plugin, name);
            empty_dir::set_up(&path, memory, None).map_err(|error| error.to_string())?;
            let changed = atomic::write(&path, &payload).map_err(|error| error.to_string())?;
            if changed {
                owner::set_group(&path, fs_group, false).map_err(|error| error.to_string())?;
            }
            Ok(MountedVolume { path, read_only: true })
        }
    }
}

/// Unmounts and removes all volumes of a pod, known or not.
pub async fn tear_down(root: &Path, pod_uid: &str) -> Result<(), String> {
    let folder = paths::pod(root, pod_uid);
    let done = tokio::task::spawn_blocking(move || {
        // A mount point may hide another one: look again until nothing is mounted.
        for _ in 0..8 {
            let mounts = host::mounts::below(&folder)?;
            if mounts.is_empty() {
                break;
            }
            for mount in mounts {
                host::mounts::unmount(&mount)?;
            }
        }
        if !host::mounts::below(&folder)?.is_empty() {
            return Err(std::io::Error::other(format!("{} still has mounts", folder.display())));
        }
        for part in ["volume-subpaths", "volumes"] {
            match std::fs::remove_dir_all(folder.join(part)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    });
    done.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}
