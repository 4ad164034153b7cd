//! A client of the API for tests: blocking, with manifests as JSON. It connects from the control plane's own network
//! namespace, so that no agent under test has a part in it.

use std::path::Path;

use anyhow::{Context, Result};
use kube::{
    Api, Config, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};

use super::{
    object::{self, Key},
    runner::Runner,
};
use crate::{harness::eventually, place::Place};

/// Whose fields those are that the lab applies.
const MANAGER: &str = "mesh-lab";
/// A client.
pub struct Client {
    runner: Runner,
    client: kube::Client,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Client")
            .field("runner", &self.runner)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client as a kubeconfig says, which connects from a place's network namespace.
    pub fn new(kubeconfig: &Path, place: Option<&Place>) -> Result<Self> {
        let runner = Runner::new(place)?;
        let read = Kubeconfig::read_from(kubeconfig)
            .with_context(|| format!("cannot read {}", kubeconfig.display()))?;
        let client = runner.run(async {
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(read, &options).await?;
            Ok(kube::Client::try_from(config)?)
        })?;
        Ok(Self { runner, client })
    }

    /// Makes an object as the manifest says, or changes it to that, status included; gives it as it is then.
    pub fn apply(&self, manifest: &Value) -> Result<Value> {
        let mut applied = self.apply_all(std::slice::from_ref(manifest))?;
        applied.pop().context("one manifest was applied")
    }

    /// Applies many, in no order. The results are in the manifests' order.
    pub fn apply_all(&self, manifests: &[Value]) -> Result<Vec<Value>> {
        let work = manifests
            .iter()
            .map(|manifest| {
                let key = Key::of(manifest)?;
                Ok((self.api(&key), key, manifest.clone()))
            })
            .collect::<Result<Vec<_>>>()?;
        self.runner.each(work, |(api, key, manifest)| async move {
            apply(&api, &key, &manifest).await
        })
    }

    /// Whether the server would take a manifest, every field of it known; nothing is stored. Gives what it would store.
    pub fn dry_run(&self, manifest: &Value) -> Result<Value> {
        let key = Key::of(manifest)?;
        let api = self.api(&key);
        let parameters = PatchParams {
            dry_run: true,
            ..PatchParams::apply(MANAGER).force().validation_strict()
        };
        let patch = Patch::Apply(manifest.clone());
        self.runner.run(async move {
            let taken = api.patch(&key.name, &parameters, &patch).await;
            object::value(taken.with_context(|| format!("{key:?} would be refused"))?)
        })
    }

    /// Makes an object that must not exist yet, from YAML or JSON.
    pub fn create(&self, yaml: &str) -> Result<Value> {
        let mut created = self.create_all(&[serde_saphyr::from_str(yaml)?])?;
        created.pop().context("one object was made")
    }

    /// Makes many that must not exist yet, in no order and without their status.
    pub fn create_all(&self, manifests: &[Value]) -> Result<Vec<Value>> {
        let work = manifests
            .iter()
            .map(|manifest| {
                let key = Key::of(manifest)?;
                let object: DynamicObject = serde_json::from_value(manifest.clone())?;
                Ok((self.api(&key), key, object))
            })
            .collect::<Result<Vec<_>>>()?;
        self.runner.each(work, |(api, key, object)| async move {
            let created = api.create(&PostParams::default(), &object).await;
            object::value(created.with_context(|| format!("cannot create {key:?}"))?)
        })
    }

    /// Merges a patch into an object of the namespace `default`.
    pub fn patch(&self, api_version: &str, kind: &str, name: &str, patch: &Value) -> Result<Value> {
        let key = Key::new(api_version, kind, Some("default"), name)?;
        let api = self.api(&key);
        let patch = Patch::Merge(patch.clone());
        self.runner.run(async move {
            let patched = api.patch(&key.name, &PatchParams::default(), &patch).await;
            object::value(patched.with_context(|| format!("cannot patch {key:?}"))?)
        })
    }

    /// Merges a patch into the status of the object that a manifest speaks of.
    pub fn patch_status(&self, manifest: &Value, status: &Value) -> Result<Value> {
        let key = Key::of(manifest)?;
        let api = self.api(&key);
        let patch = Patch::Merge(json!({"status": status}));
        self.runner.run(async move {
            let patched = api
                .patch_status(&key.name, &PatchParams::default(), &patch)
                .await;
            object::value(patched.with_context(|| format!("cannot patch the status of {key:?}"))?)
        })
    }

    /// Removes the objects that manifests speak of, at once. Those that are not there are removed.
    pub fn delete_all(&self, manifests: &[Value]) -> Result<()> {
        self.remove(manifests, &DeleteParams::default().grace_period(0))
    }

    /// The same for one.
    pub fn delete(&self, manifest: &Value) -> Result<()> {
        self.delete_all(std::slice::from_ref(manifest))
    }

    /// Has a Pod terminate: it is marked, and stays until it is deleted at once.
    pub fn terminate(&self, pod: &Value, seconds: u32) -> Result<()> {
        let parameters = DeleteParams::default().grace_period(seconds);
        self.remove(std::slice::from_ref(pod), &parameters)
    }

    fn remove(&self, manifests: &[Value], parameters: &DeleteParams) -> Result<()> {
        let work = manifests
            .iter()
            .map(|manifest| {
                let key = Key::of(manifest)?;
                Ok((self.api(&key), key, parameters.clone()))
            })
            .collect::<Result<Vec<_>>>()?;
        let removed = self.runner.each(work, |(api, key, parameters)| async move {
            match api.delete(&key.name, &parameters).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
                other => other
                    .map(drop)
                    .with_context(|| format!("cannot delete {key:?}")),
            }
        });
        removed.map(drop)
    }

    /// The object that a manifest speaks of, as it is now; none if it is not there.
    pub fn get(&self, manifest: &Value) -> Result<Option<Value>> {
        let key = Key::of(manifest)?;
        let api = self.api(&key);
        self.runner.run(async move {
            let object = api.get_opt(&key.name).await;
            let object = object.with_context(|| format!("cannot get {key:?}"))?;
            object.map(object::value).transpose()
        })
    }

    /// All objects of a kind in a namespace, or in all, with a label selector (empty for all), by name.
    pub fn list(
        &self,
        api_version: &str,
        kind: &str,
        namespace: Option<&str>,
        selector: &str,
    ) -> Result<Vec<Value>> {
        let key = Key::new(api_version, kind, namespace, "")?;
        let api = self.api(&key);
        let parameters = ListParams::default().labels(selector);
        self.runner.run(async move {
            let list = api.list(&parameters).await;
            let mut items = list
                .with_context(|| format!("cannot list {}", key.kind()))?
                .items;
            items.sort_by_key(ResourceExt::name_any);
            items.into_iter().map(object::value).collect()
        })
    }

    /// The EndpointSlices of a Service in the namespace `default`, once they are as wanted.
    pub fn wait_for_slices(
        &self,
        service: &str,
        wanted: impl Fn(&[Value]) -> bool,
    ) -> Result<Vec<Value>> {
        let selector = format!("kubernetes.io/service-name={service}");
        eventually(
            &format!("the EndpointSlices of {service} are as wanted"),
            || {
                let slices = self.list(
                    "discovery.k8s.io/v1",
                    "EndpointSlice",
                    Some("default"),
                    &selector,
                )?;
                anyhow::ensure!(wanted(&slices), "they are {slices:?}");
                Ok(slices)
            },
        )
    }

    /// Waits until the object that a manifest speaks of is as wanted.
    pub fn wait_for(
        &self,
        manifest: &Value,
        wanted: impl Fn(Option<&Value>) -> bool,
    ) -> Result<()> {
        eventually("the object is as wanted", || {
            let object = self.get(manifest)?;
            anyhow::ensure!(wanted(object.as_ref()), "it is {object:?}");
            Ok(())
        })
    }

    /// GET of any path; gives the body when it has ended, which a watch's does when the server ends it.
    pub fn raw(&self, path: &str) -> Result<String> {
        let request = hyper::Request::get(path).body(Vec::new())?;
        let client = self.client.clone();
        self.runner.run(async move {
            let text = client.request_text(request).await;
            text.with_context(|| format!("cannot get {path}"))
        })
    }

    /// Makes a namespace, and waits until Pods are admitted to it.
    pub fn namespace(&self, name: &str) -> Result<()> {
        self.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))?;
        let account = json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": name},
        });
        self.wait_for(&account, |found| found.is_some())
    }

    /// A token of a ServiceAccount that is valid for so many seconds (600 or more).
    pub fn token(&self, namespace: &str, account: &str, seconds: i64) -> Result<String> {
        let key = Key::new("v1", "ServiceAccount", Some(namespace), account)?;
        let api = self.api(&key);
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        });
        let answer: Value = self.runner.run(async move {
            let parameters = PostParams::default();
            let answer = api
                .create_subresource("token", &key.name, &parameters, &request)
                .await;
            answer.with_context(|| format!("cannot make a token for {key:?}"))
        })?;
        let token = answer.pointer("/status/token").and_then(Value::as_str);
        token.map(str::to_owned).context("the answer has no token")
    }

    fn api(&self, key: &Key) -> Api<DynamicObject> {
        match &key.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &key.resource),
            None => Api::all_with(self.client.clone(), &key.resource),
        }
    }
}

async fn apply(api: &Api<DynamicObject>, key: &Key, manifest: &Value) -> Result<Value> {
    let (object, status) = object::split_status(manifest);
    let parameters = PatchParams::apply(MANAGER).force();
    let applied = api
        .patch(&key.name, &parameters, &Patch::Apply(&object))
        .await;
    let mut applied = applied.with_context(|| format!("cannot apply {manifest}"))?;
    if let Some(status) = status {
        // Not by server-side apply: that takes two addresses of one type in a Node's status for one.
        let parameters = PatchParams::default();
        let patched = api
            .patch_status(&key.name, &parameters, &Patch::Merge(&status))
            .await;
        applied = patched.with_context(|| format!("cannot apply the status of {manifest}"))?;
    }
    object::value(applied)
}
