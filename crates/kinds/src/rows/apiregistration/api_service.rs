//! APIService: a group version, and who serves it.

use api::{FieldErrors, Path, names};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use serde_json::{Value, json};

use crate::defaults::set;
use crate::kind::{Column, Kind, KindInfo, NameRule, Scope, Subresource};
use crate::printing::{AGE, NAME, age, column, name};
use crate::rows::hooks::spec_and_status;
use crate::validation::{required, required_text};

impl Kind for APIService {
    const INFO: KindInfo = KindInfo {
        singular: "apiservice",
        categories: &["api-extensions"],
        scope: Scope::Cluster,
        subresources: &[Subresource::STATUS],
        storage_prefix: "apiregistration.k8s.io/apiservices",
        schema: "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIService",
        name_rule: NameRule::PathSegment,
        unconditional_update: false,
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        if let Some(service) = &mut self.spec.get_or_insert_default().service {
            set(&mut service.port, 443);
        }
        self.status.get_or_insert_default();
    }

    spec_and_status!();

    fn validate(&self, errors: &mut FieldErrors) {
        let (path, spec) = (Path::new("spec"), self.spec.clone().unwrap_or_default());
        let (group, version) = (spec.group.unwrap_or_default(), spec.version.unwrap_or_default());
        let name = self.metadata.name.as_deref().unwrap_or_default();
        let expected = format!("{version}.{group}");
        if name != expected {
            let detail = format!("must be `spec.version+\".\"+spec.group`: {expected:?}");
            errors.invalid(&Path::new("metadata").child("name"), name, &detail);
        }
        if !group.is_empty() {
            required_text(errors, &path.child("group"), &group, names::dns_subdomain);
        }
        required_text(errors, &path.child("version"), &version, names::dns_1035_label);
        if !(1..=20_000).contains(&spec.group_priority_minimum) {
            let detail = "must be positive and less than 20000";
            errors.invalid(&path.child("groupPriorityMinimum"), spec.group_priority_minimum, detail);
        }
        if !(1..=1000).contains(&spec.version_priority) {
            let detail = "must be positive and less than 1000";
            errors.invalid(&path.child("versionPriority"), spec.version_priority, detail);
        }
        let bundle = spec.ca_bundle.is_some_and(|bundle| !bundle.0.is_empty());
        match &spec.service {
            None if bundle => {
                errors.invalid(&path.child("caBundle"), "<bundle>", "local APIServices may not have a caBundle");
            }
            None => {}
            Some(service) => {
                let path = path.child("service");
                required(errors, &path.child("namespace"), service.namespace.as_deref().unwrap_or_default(), "");
                required(errors, &path.child("name"), service.name.as_deref().unwrap_or_default(), "");
            }
        }
        if bundle && spec.insecure_skip_tls_verify == Some(true) {
            let detail = "may not be true if caBundle is present";
            errors.invalid(&path.child("insecureSkipTLSVerify"), true, detail);
        }
    }

    fn columns() -> &'static [Column] {
        const { &[NAME, column("Service", "string"), column("Available", "string"), AGE] }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let service = self.spec.as_ref().and_then(|spec| spec.service.as_ref()).map_or_else(
            || "Local".to_owned(),
            |service| format!("{}/{}", service.namespace.as_deref().unwrap_or_default(), service.name.as_deref().unwrap_or_default()),
        );
        let conditions = self.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let available = match conditions.iter().find(|condition| condition.type_ == "Available") {
            None => "Unknown".to_owned(),
            Some(condition) if condition.status == "True" => "True".to_owned(),
            Some(condition) => format!("{} ({})", condition.status, condition.reason.as_deref().unwrap_or_default()),
        };
        vec![name(&self.metadata), json!(service), json!(available), age(&self.metadata, now)]
    }
}
