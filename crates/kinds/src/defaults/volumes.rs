//! Defaults of volumes.

use api::Quantity;
use api::core::v1::{DownwardAPIVolumeFile, ProjectedVolumeSource, Volume};

use super::{containers, set, set_text};

/// Files are readable by all: 0644.
const FILE_MODE: i32 = 0o644;

pub fn volume(volume: &mut Volume) {
    if is_bare(volume) {
        volume.empty_dir = Some(api::core::v1::EmptyDirVolumeSource::default());
    }
    if let Some(limit) = volume.empty_dir.as_mut().and_then(|source| source.size_limit.as_mut()) {
        api::quantity::canonicalize(limit);
    }
    if let Some(source) = &mut volume.secret {
        set(&mut source.default_mode, FILE_MODE);
    }
    if let Some(source) = &mut volume.config_map {
        set(&mut source.default_mode, FILE_MODE);
    }
    if let Some(source) = &mut volume.downward_api {
        set(&mut source.default_mode, FILE_MODE);
        files(source.items.as_deref_mut());
    }
    if let Some(source) = &mut volume.projected {
        projected(source);
    }
    if let Some(source) = &mut volume.host_path {
        set(&mut source.type_, String::new());
    }
    if let Some(source) = &mut volume.image {
        set_text(&mut source.pull_policy, containers::pull_policy(source.reference.as_deref().unwrap_or_default()));
    }
    if let Some(template) = volume.ephemeral.as_mut().and_then(|source| source.volume_claim_template.as_mut()) {
        crate::rows::core::persistent_volume_claim::default_spec(&mut template.spec);
    }
    remote(volume);
}

fn remote(volume: &mut Volume) {
    if let Some(source) = &mut volume.iscsi {
        set_text(&mut source.iscsi_interface, "default");
    }
    if let Some(source) = &mut volume.rbd {
        set_text(&mut source.pool, "rbd");
        set_text(&mut source.user, "admin");
        set_text(&mut source.keyring, "/etc/ceph/keyring");
    }
    if let Some(source) = &mut volume.azure_disk {
        set(&mut source.caching_mode, "ReadWrite".to_owned());
        set(&mut source.kind, "Shared".to_owned());
        set(&mut source.fs_type, "ext4".to_owned());
        set(&mut source.read_only, false);
    }
    if let Some(source) = &mut volume.scale_io {
        set_text(&mut source.storage_mode, "ThinProvisioned");
        set_text(&mut source.fs_type, "xfs");
    }
}

/// Without any source: it is an emptyDir.
fn is_bare(volume: &Volume) -> bool {
    *volume == Volume { name: volume.name.clone(), ..Volume::default() }
}

fn projected(source: &mut ProjectedVolumeSource) {
    set(&mut source.default_mode, FILE_MODE);
    for projection in source.sources.iter_mut().flatten() {
        if let Some(token) = &mut projection.service_account_token {
            set(&mut token.expiration_seconds, 3600);
        }
        if let Some(downward) = &mut projection.downward_api {
            files(downward.items.as_deref_mut());
        }
        if let Some(certificate) = &mut projection.pod_certificate {
            set(&mut certificate.max_expiration_seconds, 86_400);
        }
    }
}

fn files(files: Option<&mut [DownwardAPIVolumeFile]>) {
    for file in files.into_iter().flatten() {
        if let Some(field) = &mut file.field_ref {
            set_text(&mut field.api_version, "v1");
        }
        if let Some(field) = &mut file.resource_field_ref {
            divisor(&mut field.divisor);
        }
    }
}

/// Never absent in upstream's JSON.
pub fn divisor(divisor: &mut Option<Quantity>) {
    api::quantity::canonicalize(divisor.get_or_insert_with(|| Quantity("0".into())));
}
