//! ClusterRole.

use api::rbac::v1::ClusterRole;
use api::{FieldErrors, Path};

use super::rules;
use crate::kind::{Kind, KindInfo, NameRule, Scope};

impl Kind for ClusterRole {
    const INFO: KindInfo = KindInfo {
        singular: "clusterrole",
        scope: Scope::Cluster,
        schema: "io.k8s.api.rbac.v1.ClusterRole",
        name_rule: NameRule::PathSegment,
        create_on_update: true,
        ..KindInfo::of::<Self>()
    };

    fn validate(&self, errors: &mut FieldErrors) {
        rules::rules(errors, &Path::new("rules"), self.rules.as_deref().unwrap_or_default(), true);
        for (index, selector) in self.aggregation_rule.iter().flat_map(|rule| rule.cluster_role_selectors.iter().flatten()).enumerate() {
            let path = Path::new("aggregationRule").child("clusterRoleSelectors").index(index);
            crate::validation::selectors::label_selector(errors, &path, Some(selector));
        }
    }
}
