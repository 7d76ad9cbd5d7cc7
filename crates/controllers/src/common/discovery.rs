//! What resources the API server has, for the controllers that work on all of them.

use client::{Api, Client};
use kube::core::discovery::ApiResource;
use kube::core::{DynamicObject, PartialObjectMeta};

/// An object of which only the metadata was asked for.
pub type Metadata = PartialObjectMeta<DynamicObject>;

#[derive(Clone, Debug)]
pub struct Resource {
    pub api: ApiResource,
    pub namespaced: bool,
    pub verbs: Vec<String>,
}

impl Resource {
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|known| known == verb)
    }

    pub fn in_namespace(&self, client: &Client, namespace: &str) -> Api<Metadata> {
        if self.namespaced { Api::namespaced_with(client.clone(), namespace, &self.api) } else { Api::all_with(client.clone(), &self.api) }
    }

    pub fn everywhere(&self, client: &Client) -> Api<Metadata> {
        Api::all_with(client.clone(), &self.api)
    }

    /// `deployments.apps`, for people.
    pub fn title(&self) -> String {
        if self.api.group.is_empty() { self.api.plural.clone() } else { format!("{}.{}", self.api.plural, self.api.group) }
    }
}

/// Every resource once, at its group's most preferred version that has it.
pub async fn resources(client: &Client) -> Result<Vec<Resource>, kube::Error> {
    let mut found: Vec<Resource> = Vec::new();
    for list in [client.list_core_api_versions_aggregated().await?, client.list_api_groups_aggregated().await?] {
        for group in list.items {
            let name = group.metadata.and_then(|meta| meta.name).unwrap_or_default();
            for version in group.versions {
                let version_name = version.version.unwrap_or_default();
                for resource in version.resources {
                    let plural = resource.resource.unwrap_or_default();
                    if found.iter().any(|known| known.api.group == name && known.api.plural == plural) {
                        continue;
                    }
                    let api_version = if name.is_empty() { version_name.clone() } else { format!("{name}/{version_name}") };
                    let kind = resource.response_kind.and_then(|kind| kind.kind).unwrap_or_default();
                    let api = ApiResource { group: name.clone(), version: version_name.clone(), api_version, kind, plural };
                    found.push(Resource { api, namespaced: resource.scope.as_deref() == Some("Namespaced"), verbs: resource.verbs });
                }
            }
        }
    }
    Ok(found)
}
