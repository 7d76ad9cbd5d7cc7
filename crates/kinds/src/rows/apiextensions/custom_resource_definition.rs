//! CustomResourceDefinition: the row of the rows that come at run time. Rules on schemas are in `schema` of the API server.

use api::{FieldErrors, Path, names};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use crate::defaults::{set, set_text};
use crate::kind::{Kind, KindInfo, Scope, Subresource};
use crate::validation::{each, immutable, one_of, required, required_text};

impl Kind for CustomResourceDefinition {
    const INFO: KindInfo = KindInfo {
        singular: "customresourcedefinition",
        short_names: &["crd", "crds"],
        categories: &["api-extensions"],
        scope: Scope::Cluster,
        subresources: &[Subresource::STATUS],
        storage_prefix: "apiextensions.k8s.io/customresourcedefinitions",
        schema: "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
        has_generation: true,
        unconditional_update: false,
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        let spec = &mut self.spec;
        let names = &mut spec.names;
        if !names.kind.is_empty() {
            set_text(&mut names.singular, &names.kind.to_lowercase());
            set_text(&mut names.list_kind, &format!("{}List", names.kind));
        }
        let conversion = spec.conversion.get_or_insert_default();
        if conversion.strategy.is_empty() {
            conversion.strategy = "None".to_owned();
        }
        let client = conversion.webhook.as_mut().and_then(|webhook| webhook.client_config.as_mut());
        if let Some(service) = client.and_then(|client| client.service.as_mut()) {
            set(&mut service.port, 443);
        }
        self.status.get_or_insert_default();
    }

    fn prepare_create(&mut self) {
        let stored = self.spec.versions.iter().filter(|version| version.storage).map(|version| version.name.clone()).collect();
        let status = self.status.insert(Default::default());
        status.stored_versions = Some(stored);
    }

    fn prepare_update(&mut self, old: &Self) {
        self.status = old.status.clone();
        let stored = self.status.get_or_insert_default().stored_versions.get_or_insert_default();
        for version in self.spec.versions.iter().filter(|version| version.storage) {
            if !stored.contains(&version.name) {
                stored.push(version.name.clone());
            }
        }
    }

    fn prepare_status_update(&mut self, old: &Self) {
        self.spec = old.spec.clone();
    }

    fn spec_changed(&self, old: &Self) -> bool {
        self.spec != old.spec
    }

    fn validate(&self, errors: &mut FieldErrors) {
        let (path, spec) = (Path::new("spec"), &self.spec);
        let name = self.metadata.name.as_deref().unwrap_or_default();
        let expected = format!("{}.{}", spec.names.plural, spec.group);
        if name != expected {
            let detail = format!("must be spec.names.plural+\".\"+spec.group: {expected:?}");
            errors.invalid(&Path::new("metadata").child("name"), name, &detail);
        }
        required_text(errors, &path.child("group"), &spec.group, names::dns_subdomain);
        if !spec.group.is_empty() && !spec.group.contains('.') {
            errors.invalid(&path.child("group"), &spec.group, "should be a domain with at least one dot");
        }
        one_of(errors, &path.child("scope"), Some(&spec.scope), &["Cluster", "Namespaced"]);
        if spec.preserve_unknown_fields == Some(true) {
            let detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
            errors.invalid(&path.child("preserveUnknownFields"), true, detail);
        }
        names_rules(self, errors, &path.child("names"));
        versions(self, errors, &path);
    }

    fn validate_update(&self, old: &Self, errors: &mut FieldErrors) {
        let path = Path::new("spec");
        immutable(errors, &path.child("group"), &self.spec.group, &old.spec.group);
        let established = old.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let established = established.into_iter().any(|condition| condition.type_ == "Established" && condition.status == "True");
        if established {
            immutable(errors, &path.child("scope"), &self.spec.scope, &old.spec.scope);
            immutable(errors, &path.child("names").child("kind"), &self.spec.names.kind, &old.spec.names.kind);
            immutable(errors, &path.child("names").child("plural"), &self.spec.names.plural, &old.spec.names.plural);
        }
    }
}

fn names_rules(crd: &CustomResourceDefinition, errors: &mut FieldErrors, path: &Path) {
    let names = &crd.spec.names;
    required_text(errors, &path.child("plural"), &names.plural, names::dns_1035_label);
    required_text(errors, &path.child("singular"), names.singular.as_deref().unwrap_or_default(), names::dns_1035_label);
    let list_kind = names.list_kind.as_deref().unwrap_or_default();
    for (field, kind) in [("kind", names.kind.as_str()), ("listKind", list_kind)] {
        required(errors, &path.child(field), kind, "");
        if !kind.is_empty() {
            for problem in names::dns_1035_label(&kind.to_lowercase()) {
                errors.invalid(&path.child(field), kind, &format!("may have mixed case, but should otherwise match: {problem}"));
            }
        }
    }
    if !names.kind.is_empty() && names.kind == list_kind {
        errors.invalid(&path.child("listKind"), list_kind, "kind and listKind may not be the same");
    }
    for (index, short) in names.short_names.iter().flatten().enumerate() {
        each(errors, &path.child("shortNames").index(index), short, names::dns_1035_label(short));
    }
    for (index, category) in names.categories.iter().flatten().enumerate() {
        each(errors, &path.child("categories").index(index), category, names::dns_1035_label(category));
    }
}

fn versions(crd: &CustomResourceDefinition, errors: &mut FieldErrors, path: &Path) {
    let list = &crd.spec.versions;
    let versions_path = path.child("versions");
    if list.is_empty() {
        errors.required(&versions_path, "must have exactly one version marked as storage version");
    }
    for (index, version) in list.iter().enumerate() {
        let path = versions_path.index(index);
        for problem in names::dns_1035_label(&version.name) {
            errors.invalid(&path.child("name"), &version.name, &problem);
        }
        if list.iter().take(index).any(|other| other.name == version.name) {
            errors.invalid(&path.child("name"), &version.name, "must not contain duplicate version names");
        }
        if version.schema.as_ref().is_none_or(|schema| schema.open_api_v3_schema.is_none()) {
            errors.required(&path.child("schema").child("openAPIV3Schema"), "schemas are required");
        }
    }
    if !list.is_empty() && list.iter().filter(|version| version.storage).count() != 1 {
        let names: Vec<&str> = list.iter().map(|version| version.name.as_str()).collect();
        let value = crate::validation::shown(&names);
        errors.invalid(&versions_path, &value, "must have exactly one version marked as storage version");
    }
    let conversion = crd.spec.conversion.clone().unwrap_or_default();
    let conversion_path = path.child("conversion");
    one_of(errors, &conversion_path.child("strategy"), Some(&conversion.strategy), &["None", "Webhook"]);
    match (conversion.strategy.as_str(), &conversion.webhook) {
        ("Webhook", None) => {
            errors.required(&conversion_path.child("webhookClientConfig"), "required when strategy is set to Webhook");
        }
        ("None", Some(_)) => {
            errors.forbidden(&conversion_path.child("webhookClientConfig"), "should not be set when strategy is not set to Webhook");
        }
        _ => {}
    }
}
