//! Rules on security contexts of pods and containers.

use api::core::v1::{AppArmorProfile, PodSecurityContext, SeccompProfile, SecurityContext};
use api::{FieldErrors, Path, names};

use super::{each_int, not_supported_sorted, one_of_present, required, shown};

pub fn pod(errors: &mut FieldErrors, path: &Path, context: Option<&PodSecurityContext>) {
    let Some(context) = context else { return };
    for (name, id) in [("fsGroup", context.fs_group), ("runAsUser", context.run_as_user), ("runAsGroup", context.run_as_group)] {
        id_number(errors, &path.child(name), id);
    }
    for (index, group) in context.supplemental_groups.iter().flatten().enumerate() {
        id_number(errors, &path.child("supplementalGroups").index(index), Some(*group));
    }
    sysctls(errors, &path.child("sysctls"), context);
    one_of_present(errors, &path.child("fsGroupChangePolicy"), context.fs_group_change_policy.as_deref(), &["Always", "OnRootMismatch"]);
    one_of_present(errors, &path.child("supplementalGroupsPolicy"), context.supplemental_groups_policy.as_deref(), &["Merge", "Strict"]);
    seccomp(errors, &path.child("seccompProfile"), context.seccomp_profile.as_ref());
    app_armor(errors, &path.child("appArmorProfile"), context.app_armor_profile.as_ref());
}

fn sysctls(errors: &mut FieldErrors, path: &Path, context: &PodSecurityContext) {
    let mut seen = Vec::new();
    for (index, sysctl) in context.sysctls.iter().flatten().enumerate() {
        let path = path.index(index).child("name");
        let shape = |part: &str| {
            let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
            let bytes = part.as_bytes();
            edge(bytes.first())
                && edge(bytes.last())
                && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
        };
        if sysctl.name.is_empty() {
            errors.required(&path, "");
        } else if sysctl.name.len() > 253 || !sysctl.name.split(['.', '/']).all(shape) {
            let detail = "must have at most 253 characters and match regex \
                          ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            errors.invalid(&path, &sysctl.name, detail);
        } else if seen.contains(&sysctl.name.as_str()) {
            errors.duplicate(&path, &sysctl.name);
        } else {
            seen.push(&sysctl.name);
        }
    }
}

pub fn container(errors: &mut FieldErrors, path: &Path, context: Option<&SecurityContext>) {
    let Some(context) = context else { return };
    id_number(errors, &path.child("runAsUser"), context.run_as_user);
    id_number(errors, &path.child("runAsGroup"), context.run_as_group);
    one_of_present(errors, &path.child("procMount"), context.proc_mount.as_deref(), &["Default", "Unmasked"]);
    seccomp(errors, &path.child("seccompProfile"), context.seccomp_profile.as_ref());
    app_armor(errors, &path.child("appArmorProfile"), context.app_armor_profile.as_ref());
    if context.allow_privilege_escalation != Some(false) {
        return;
    }
    if context.privileged == Some(true) {
        errors.invalid(path, &shown(context), "cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
    }
    let added = context.capabilities.as_ref().and_then(|capabilities| capabilities.add.as_ref());
    if added.is_some_and(|list| list.iter().any(|capability| capability == "CAP_SYS_ADMIN")) {
        let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
        errors.invalid(path, &shown(context), detail);
    }
}

fn id_number(errors: &mut FieldErrors, path: &Path, id: Option<i64>) {
    if let Some(id) = id {
        each_int(errors, path, id, names::id_number(id));
    }
}

fn seccomp(errors: &mut FieldErrors, path: &Path, profile: Option<&SeccompProfile>) {
    if let Some(profile) = profile {
        local_profile(errors, path, &profile.type_, profile.localhost_profile.as_deref(), "seccomp");
    }
}

fn app_armor(errors: &mut FieldErrors, path: &Path, profile: Option<&AppArmorProfile>) {
    if let Some(profile) = profile {
        local_profile(errors, path, &profile.type_, profile.localhost_profile.as_deref(), "AppArmor");
    }
}

fn local_profile(errors: &mut FieldErrors, path: &Path, type_: &str, local: Option<&str>, what: &str) {
    let local_path = path.child("localhostProfile");
    match type_ {
        "Localhost" => {
            let detail = format!("must be set when {what} type is Localhost");
            required(errors, &local_path, local.unwrap_or_default(), &detail);
            if what == "seccomp"
                && let Some(local) = local.filter(|local| !local.is_empty())
            {
                super::volumes::local_path(errors, &local_path, local);
            }
        }
        "RuntimeDefault" | "Unconfined" => {
            if let Some(local) = local {
                errors.invalid(&local_path, local, &format!("can only be set when {what} type is Localhost"));
            }
        }
        "" => errors.required(&path.child("type"), "type is required when seccompProfile is set"),
        other => not_supported_sorted(errors, &path.child("type"), other, &["Localhost", "RuntimeDefault", "Unconfined"]),
    }
}
