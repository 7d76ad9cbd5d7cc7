//! Rules on volumes of pods (pkg/apis/core/validation: ValidateVolumes).

use api::core::v1::{
    DownwardAPIVolumeFile, EmptyDirVolumeSource, HostPathVolumeSource, KeyToPath, NFSVolumeSource, ProjectedVolumeSource, Volume,
    VolumeProjection,
};
use api::{FieldErrors, Path, names};
use serde_json::Value;

use super::{each, env, not_supported_sorted, one_of_present, required, required_text};

/// A relative path that stays inside its folder.
pub fn local_path(errors: &mut FieldErrors, path: &Path, text: &str) {
    if text.is_empty() {
        errors.required(path, "");
        return;
    }
    descending_path(errors, path, text);
    if text.starts_with("..") && !text.starts_with("../") && text != ".." {
        errors.invalid(path, text, "must not start with '..'");
    }
}

/// A path that is relative and never climbs.
pub fn descending_path(errors: &mut FieldErrors, path: &Path, text: &str) {
    if text.starts_with('/') {
        errors.invalid(path, text, "must be a relative path");
    }
    no_backsteps(errors, path, text);
}

pub fn no_backsteps(errors: &mut FieldErrors, path: &Path, text: &str) {
    if text.split('/').any(|part| part == "..") {
        errors.invalid(path, text, "must not contain '..'");
    }
}

pub fn volumes(errors: &mut FieldErrors, path: &Path, volumes: &[Volume]) {
    let mut seen: Vec<&str> = Vec::new();
    for (index, volume) in volumes.iter().enumerate() {
        let path = path.index(index);
        required_text(errors, &path.child("name"), &volume.name, names::dns_label);
        if seen.contains(&volume.name.as_str()) {
            errors.duplicate(&path.child("name"), &volume.name);
        }
        seen.push(&volume.name);
        one_source(errors, &path, volume);
        sources(errors, &path, volume);
    }
}

/// The fields of a volume beside its name are its sources: exactly one must be there.
fn one_source(errors: &mut FieldErrors, path: &Path, volume: &Volume) {
    let Value::Object(fields) = super::shown(volume) else { return };
    let mut sources = fields.keys().filter(|key| *key != "name");
    if sources.next().is_none() {
        errors.required(path, "must specify a volume type");
    }
    for extra in sources {
        errors.forbidden(&path.child(extra), "may not specify more than 1 volume type");
    }
}

fn sources(errors: &mut FieldErrors, path: &Path, volume: &Volume) {
    if let Some(source) = &volume.empty_dir {
        empty_dir(errors, &path.child("emptyDir"), source);
    }
    if let Some(source) = &volume.host_path {
        host_path(errors, &path.child("hostPath"), source);
    }
    if let Some(source) = &volume.secret {
        let path = path.child("secret");
        required(errors, &path.child("secretName"), source.secret_name.as_deref().unwrap_or_default(), "");
        mode(errors, &path.child("defaultMode"), source.default_mode);
        items(errors, &path.child("items"), source.items.as_deref());
    }
    if let Some(source) = &volume.config_map {
        let path = path.child("configMap");
        required(errors, &path.child("name"), &source.name, "");
        mode(errors, &path.child("defaultMode"), source.default_mode);
        items(errors, &path.child("items"), source.items.as_deref());
    }
    if let Some(source) = &volume.downward_api {
        let path = path.child("downwardAPI");
        mode(errors, &path.child("defaultMode"), source.default_mode);
        downward_files(errors, &path, source.items.as_deref());
    }
    if let Some(source) = &volume.projected {
        projected(errors, &path.child("projected"), source);
    }
    if let Some(source) = &volume.persistent_volume_claim {
        required(errors, &path.child("persistentVolumeClaim").child("claimName"), &source.claim_name, "");
    }
    if let Some(source) = &volume.nfs {
        nfs(errors, &path.child("nfs"), source);
    }
    if let Some(source) = &volume.csi {
        required_text(errors, &path.child("csi").child("driver"), &source.driver, names::dns_subdomain);
    }
    if let Some(source) = &volume.image {
        let path = path.child("image");
        required(errors, &path.child("reference"), source.reference.as_deref().unwrap_or_default(), "");
        one_of_present(errors, &path.child("pullPolicy"), source.pull_policy.as_deref(), &["Always", "IfNotPresent", "Never"]);
    }
    if let Some(source) = &volume.ephemeral {
        let path = path.child("ephemeral").child("volumeClaimTemplate");
        match &source.volume_claim_template {
            Some(template) => {
                crate::rows::core::persistent_volume_claim::claim_spec(errors, &path.child("spec"), &template.spec);
            }
            None => errors.required(&path, ""),
        }
    }
}

fn empty_dir(errors: &mut FieldErrors, path: &Path, source: &EmptyDirVolumeSource) {
    if let Some(limit) = &source.size_limit
        && api::quantity::parse(&limit.0).map_or(true, |amount| amount.sign() < 0)
    {
        errors.forbidden(&path.child("sizeLimit"), "SizeLimit field must be a valid resource quantity");
    }
}

const HOST_PATH_TYPES: &[&str] = &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

pub fn host_path(errors: &mut FieldErrors, path: &Path, source: &HostPathVolumeSource) {
    if source.path.is_empty() {
        errors.required(&path.child("path"), "");
        return;
    }
    no_backsteps(errors, &path.child("path"), &source.path);
    if let Some(type_) = source.type_.as_deref().filter(|type_| !HOST_PATH_TYPES.contains(type_)) {
        not_supported_sorted(errors, &path.child("type"), type_, HOST_PATH_TYPES);
    }
}

pub fn nfs(errors: &mut FieldErrors, path: &Path, source: &NFSVolumeSource) {
    required(errors, &path.child("server"), &source.server, "");
    required(errors, &path.child("path"), &source.path, "");
    if !source.path.starts_with('/') {
        errors.invalid(&path.child("path"), &source.path, "must be an absolute path");
    }
}

fn mode(errors: &mut FieldErrors, path: &Path, mode: Option<i32>) {
    if let Some(mode) = mode.filter(|mode| !(0..=0o777).contains(mode)) {
        errors.invalid(path, mode, "must be a number between 0 and 0777 (octal), both inclusive");
    }
}

fn items(errors: &mut FieldErrors, path: &Path, items: Option<&[KeyToPath]>) {
    for (index, item) in items.into_iter().flatten().enumerate() {
        let path = path.index(index);
        required(errors, &path.child("key"), &item.key, "");
        local_path(errors, &path.child("path"), &item.path);
        mode(errors, &path.child("mode"), item.mode);
    }
}

fn downward_files(errors: &mut FieldErrors, path: &Path, files: Option<&[DownwardAPIVolumeFile]>) {
    for file in files.into_iter().flatten() {
        local_path(errors, &path.child("path"), &file.path);
        match (&file.field_ref, &file.resource_field_ref) {
            (Some(field), None) => env::field_ref(errors, &path.child("fieldRef"), field, env::VOLUME_FIELDS),
            (None, Some(field)) => env::resource_field_ref(errors, &path.child("resourceFieldRef"), field, true),
            (Some(_), Some(_)) => {
                errors.invalid(path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously");
            }
            (None, None) => errors.required(path, "one of fieldRef and resourceFieldRef is required"),
        }
        mode(errors, &path.child("mode"), file.mode);
    }
}

fn projected(errors: &mut FieldErrors, path: &Path, source: &ProjectedVolumeSource) {
    mode(errors, &path.child("defaultMode"), source.default_mode);
    let mut all_paths: Vec<&str> = Vec::new();
    for (index, projection) in source.sources.iter().flatten().enumerate() {
        let path = path.child("sources").index(index);
        projection_rules(errors, &path, projection);
        for (field, file) in projected_paths(projection) {
            if all_paths.contains(&file) {
                errors.invalid(&path.child(field), file, "conflicting duplicate paths");
            }
            all_paths.push(file);
        }
    }
}

fn projection_rules(errors: &mut FieldErrors, path: &Path, projection: &VolumeProjection) {
    let mut count = 0;
    if let Some(source) = &projection.secret {
        count += 1;
        required(errors, &path.child("secret").child("name"), &source.name, "");
        items(errors, &path.child("secret").child("items"), source.items.as_deref());
    }
    if let Some(source) = &projection.config_map {
        count += 1;
        required(errors, &path.child("configMap").child("name"), &source.name, "");
        items(errors, &path.child("configMap").child("items"), source.items.as_deref());
    }
    if let Some(source) = &projection.downward_api {
        count += 1;
        downward_files(errors, &path.child("downwardAPI"), source.items.as_deref());
    }
    if let Some(source) = &projection.service_account_token {
        count += 1;
        let path = path.child("serviceAccountToken");
        if let Some(seconds) = source.expiration_seconds {
            token_lifetime(errors, &path.child("expirationSeconds"), seconds);
        }
        required(errors, &path.child("path"), &source.path, "");
    }
    count += usize::from(projection.cluster_trust_bundle.is_some()) + usize::from(projection.pod_certificate.is_some());
    match count {
        0 => errors.required(path, "must specify a volume type"),
        1 => {}
        _ => errors.forbidden(path, "may not specify more than 1 volume type"),
    }
}

/// From ten minutes to about 136 years, in seconds.
pub fn token_lifetime(errors: &mut FieldErrors, path: &Path, seconds: i64) {
    if seconds < 600 {
        errors.invalid(path, seconds, "may not specify a duration less than 10 minutes");
    }
    if seconds > 1 << 32 {
        errors.invalid(path, seconds, "may not specify a duration larger than 2^32 seconds");
    }
}

fn projected_paths(projection: &VolumeProjection) -> Vec<(&'static str, &str)> {
    let mut paths = Vec::new();
    if let Some(source) = &projection.secret {
        paths.extend(source.items.iter().flatten().map(|item| ("secret", item.path.as_str())));
    }
    if let Some(source) = &projection.config_map {
        paths.extend(source.items.iter().flatten().map(|item| ("configMap", item.path.as_str())));
    }
    if let Some(source) = &projection.downward_api {
        paths.extend(source.items.iter().flatten().map(|item| ("downwardAPI", item.path.as_str())));
    }
    if let Some(source) = &projection.service_account_token {
        paths.push(("serviceAccountToken", source.path.as_str()));
    }
    paths
}

/// The name of a Secret or ConfigMap where it is given.
pub fn object_name(errors: &mut FieldErrors, path: &Path, name: &str) {
    if !name.is_empty() {
        each(errors, path, name, names::dns_subdomain(name));
    }
}
