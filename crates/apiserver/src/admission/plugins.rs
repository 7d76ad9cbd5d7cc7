//! The plugins by name, in the order in which upstream runs them (pkg/kubeapiserver/options/plugins.go), and which of them the flags enable.

use std::sync::Arc;

use super::{AdmissionError, AdmissionOptions, Plugin};
use super::{
    certificates, default_ingress_class, default_toleration_seconds, limit_ranger, namespace_lifecycle, node_restriction, owner_references,
    pod_security, priority, resource_quota, runtime_class, service_account, storage, taint_nodes_by_condition,
};
use crate::Objects;
use crate::auth::Authorizer;

/// What plugins are made of.
pub struct Parts<'a> {
    pub options: &'a AdmissionOptions,
    pub objects: &'a Objects,
    pub authorizer: &'a Arc<dyn Authorizer>,
}

type Make = fn(&Parts<'_>) -> Box<dyn Plugin>;

struct Known {
    name: &'static str,
    by_default: bool,
    /// `None`: not available here.
    make: Option<Make>,
}

const fn known(name: &'static str, by_default: bool, make: Make) -> Known {
    Known { name, by_default, make: Some(make) }
}

const fn missing(name: &'static str) -> Known {
    Known { name, by_default: false, make: None }
}

const ALL: &[Known] = &[
    missing("AlwaysAdmit"),
    missing("NamespaceAutoProvision"),
    known("NamespaceLifecycle", true, |p| Box::new(namespace_lifecycle::NamespaceLifecycle::new(p.objects.clone()))),
    missing("NamespaceExists"),
    missing("LimitPodHardAntiAffinityTopology"),
    known("LimitRanger", true, |p| Box::new(limit_ranger::LimitRanger::new(p.objects.clone()))),
    known("ServiceAccount", true, |p| Box::new(service_account::ServiceAccounts::new(p.objects.clone()))),
    known("NodeRestriction", true, |p| Box::new(node_restriction::NodeRestriction::new(p.objects.clone()))),
    known("TaintNodesByCondition", true, |_| Box::new(taint_nodes_by_condition::TaintNodesByCondition)),
    missing("AlwaysPullImages"),
    missing("ImagePolicyWebhook"),
    known("PodSecurity", true, |p| Box::new(pod_security::PodSecurity::new(p.objects.clone()))),
    missing("PodNodeSelector"),
    known("Priority", true, |p| Box::new(priority::Priority::new(p.objects.clone()))),
    known("DefaultTolerationSeconds", true, |p| {
        Box::new(default_toleration_seconds::DefaultTolerationSeconds {
            not_ready_seconds: p.options.default_not_ready_toleration_seconds,
            unreachable_seconds: p.options.default_unreachable_toleration_seconds,
        })
    }),
    missing("PodTolerationRestriction"),
    missing("EventRateLimit"),
    missing("ExtendedResourceToleration"),
    known("DefaultStorageClass", true, |p| Box::new(storage::DefaultStorageClass::new(p.objects.clone()))),
    // Upstream enables it by default. The finalizers that it sets are removed by the pvc- and pv-protection controllers; without them
    // no claim would ever go away, so here it waits for them.
    known("StorageObjectInUseProtection", false, |_| Box::new(storage::StorageObjectInUseProtection)),
    known("OwnerReferencesPermissionEnforcement", false, |p| Box::new(owner_references::OwnerReferences::new(p.authorizer.clone()))),
    known("PersistentVolumeClaimResize", true, |p| Box::new(storage::PersistentVolumeClaimResize::new(p.objects.clone()))),
    known("RuntimeClass", true, |p| Box::new(runtime_class::RuntimeClasses::new(p.objects.clone()))),
    known("CertificateApproval", true, |p| Box::new(certificates::CertificateApproval::new(p.authorizer.clone()))),
    known("CertificateSigning", true, |p| Box::new(certificates::CertificateSigning::new(p.authorizer.clone()))),
    known("ClusterTrustBundleAttest", true, |p| Box::new(certificates::ClusterTrustBundleAttest::new(p.authorizer.clone()))),
    known("CertificateSubjectRestriction", true, |_| Box::new(certificates::CertificateSubjectRestriction)),
    known("DefaultIngressClass", true, |p| Box::new(default_ingress_class::DefaultIngressClass::new(p.objects.clone()))),
    missing("DenyServiceExternalIPs"),
    missing("PodTopologyLabels"),
    missing("MutatingAdmissionPolicy"),
    missing("MutatingAdmissionWebhook"),
    missing("ValidatingAdmissionPolicy"),
    missing("ValidatingAdmissionWebhook"),
    known("ResourceQuota", true, |p| Box::new(resource_quota::ResourceQuotas::new(p.objects.clone()))),
    missing("AlwaysDeny"),
];

/// The names that flags enable, in order.
fn enabled(enable: &[String], disable: &[String]) -> Result<Vec<&'static Known>, AdmissionError> {
    for name in enable.iter().chain(disable) {
        if !ALL.iter().any(|plugin| plugin.name == name) {
            return Err(AdmissionError(format!("admission-control plugin {name:?} is unknown")));
        }
    }
    for name in enable {
        if disable.contains(name) {
            return Err(AdmissionError(format!("{name:?} in enable-admission-plugins and disable-admission-plugins overlapped")));
        }
        if ALL.iter().any(|plugin| plugin.name == name && plugin.make.is_none()) {
            return Err(AdmissionError(format!("--enable-admission-plugins: {name} is not available in this server")));
        }
    }
    let has = |list: &[String], name: &str| list.iter().any(|n| n == name);
    Ok(ALL.iter().filter(|p| has(enable, p.name) || (p.by_default && !has(disable, p.name))).collect())
}

pub fn make(parts: &Parts<'_>) -> Result<Vec<Box<dyn Plugin>>, AdmissionError> {
    let enabled = enabled(&parts.options.enable_admission_plugins, &parts.options.disable_admission_plugins)?;
    Ok(enabled.into_iter().filter_map(|plugin| plugin.make).map(|make| make(parts)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(enable: &[&str], disable: &[&str]) -> Result<Vec<&'static str>, String> {
        let own = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        enabled(&own(enable), &own(disable)).map(|list| list.iter().map(|p| p.name).collect()).map_err(|e| e.to_string())
    }

    #[test]
    fn flags_enable_and_disable() {
        let usual = names(&[], &[]).unwrap();
        assert_eq!(usual[..4], ["NamespaceLifecycle", "LimitRanger", "ServiceAccount", "NodeRestriction"]);
        assert!(names(&["OwnerReferencesPermissionEnforcement"], &[]).unwrap().contains(&"OwnerReferencesPermissionEnforcement"));
        assert!(!names(&[], &["Priority"]).unwrap().contains(&"Priority"));
        assert_eq!(names(&["Nothing"], &[]).unwrap_err(), "admission-control plugin \"Nothing\" is unknown");
        assert!(names(&["Priority"], &["Priority"]).unwrap_err().contains("overlapped"));
        assert!(names(&["AlwaysPullImages"], &[]).unwrap_err().contains("not available"));
    }
}
