//! The files and documents of an export, in the order in which they are written.

use std::collections::BTreeSet;

use stile_core::package::Version;
use stile_protocol::names::ModuleAddress;

use super::model::{Catalogue, LeftOut};
use super::path::{Owner, SumsId, TreePath};
use super::{documents, snippets};
use crate::published::{Contents, Place};

/// An archive that the export has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WantedFile {
    pub(super) path: TreePath,
    /// The SHA-256 in lower-case hex.
    pub(super) sha256: String,
    /// The size in bytes.
    pub(super) bytes: u64,
    pub(super) place: Place,
}

/// A document with its path.
pub(crate) type Document = (TreePath, Vec<u8>);

/// What an export writes.
#[derive(Debug)]
pub(crate) struct Plan(Catalogue);

impl Plan {
    /// Creates the plan for these packages.
    pub(crate) const fn new(catalogue: Catalogue) -> Self {
        Self(catalogue)
    }

    /// Returns the packages.
    pub(crate) const fn catalogue(&self) -> &Catalogue {
        &self.0
    }

    /// Returns the archives, which are written first.
    pub(super) fn archives(&self) -> Vec<WantedFile> {
        let mut found = Vec::new();
        for provider in &self.0.providers {
            let address = &provider.address;
            for of in &provider.versions {
                found.extend(of.release.files.iter().map(|(platform, file)| WantedFile {
                    path: TreePath::provider_zip(address, &of.version, platform),
                    sha256: file.sha256.clone(),
                    bytes: file.bytes,
                    place: Place::Provider(address.clone(), of.version.clone(), platform.clone()),
                }));
            }
        }
        for module in &self.0.modules {
            let address = &module.address;
            for of in &module.versions {
                let Contents::Archive { format, sha256, bytes, is_object } = &of.contents else {
                    continue;
                };
                let place = if *is_object { Place::Object } else { Place::Module };
                found.push(WantedFile {
                    path: TreePath::module_archive(address, &of.version, *format),
                    sha256: sha256.clone(),
                    bytes: *bytes,
                    place: place(address.clone(), of.version.clone()),
                });
            }
        }
        found
    }

    /// Leaves out versions of modules whose archives cannot be read.
    pub(crate) fn leave_out(&mut self, versions: Vec<(ModuleAddress, Version, String)>) {
        for (address, version, sentence) in versions {
            for module in self.0.modules.iter_mut().filter(|module| module.address == address) {
                module.versions.retain(|of| of.version != version);
            }
            self.0.left_out.push(LeftOut { sentence, distrusted: None, version });
        }
        self.0.modules.retain(|module| !module.versions.is_empty());
    }

    /// Returns the signed lists of digests and the manifests of providers, which are written next.
    pub(crate) fn signed(&self) -> impl Iterator<Item = Document> {
        self.0.providers.iter().flat_map(|provider| {
            let address = &provider.address;
            provider.versions.iter().flat_map(move |of| {
                let (version, sums) = (&of.version, &of.release.sums);
                let pair = SumsId::of(sums);
                let manifest = of.release.manifest.as_ref().map(|text| {
                    (TreePath::provider_manifest(address, version), text.clone().into_bytes())
                });
                let sums = [
                    (
                        TreePath::provider_sums(address, version, &pair),
                        sums.text.clone().into_bytes(),
                    ),
                    (TreePath::provider_signature(address, version, &pair), sums.signature.clone()),
                ];
                sums.into_iter().chain(manifest)
            })
        })
    }

    /// Returns the documents of versions, which name archives.
    pub(crate) fn versions(&self) -> impl Iterator<Item = Document> {
        let providers = self.0.providers.iter().flat_map(|provider| {
            let address = &provider.address;
            provider.versions.iter().flat_map(move |of| {
                of.release.files.keys().filter_map(move |platform| {
                    let path = TreePath::provider_download(address, &of.version, platform);
                    let text = documents::provider_download(address, of, platform)?;
                    Some((path, text.into_bytes()))
                })
            })
        });
        let modules = self.0.modules.iter().flat_map(|module| {
            module.versions.iter().map(|of| {
                let path = TreePath::module_download(&module.address, &of.version);
                (path, documents::module_download(of).into_bytes())
            })
        });
        providers.chain(modules)
    }

    /// Returns what helps to serve the tree.
    pub(crate) fn snippets(&self) -> Vec<Document> {
        let locations: Vec<_> = self
            .0
            .modules
            .iter()
            .flat_map(|module| {
                module.versions.iter().map(|of| {
                    let path = TreePath::module_download(&module.address, &of.version);
                    (path, documents::module_location(of))
                })
            })
            .collect();
        [
            (TreePath::content_types(), snippets::content_types()),
            (TreePath::nginx(), snippets::nginx(&locations)),
            (TreePath::cloudfront(), snippets::cloudfront(&locations)),
            (TreePath::cloudfront_keys(), snippets::cloudfront_keys(&locations)),
        ]
        .map(|(path, text)| (path, text.into_bytes()))
        .into()
    }

    /// Returns the indexes, which name versions.
    pub(crate) fn indexes(&self) -> impl Iterator<Item = Document> {
        let providers = self.0.providers.iter().map(|provider| {
            let path = TreePath::provider_versions(&provider.address);
            (path, documents::provider_versions(provider).into_bytes())
        });
        let modules = self.0.modules.iter().map(|module| {
            let path = TreePath::module_versions(&module.address);
            (path, documents::module_versions(module).into_bytes())
        });
        providers.chain(modules)
    }

    /// Returns the discovery document, which is written last.
    pub(crate) fn discovery() -> Document {
        (TreePath::discovery(), documents::discovery().into_bytes())
    }

    /// Returns the paths of all files of packages.
    pub(crate) fn paths(&self) -> BTreeSet<TreePath> {
        let documents = self.signed().chain(self.versions()).chain(self.indexes());
        let archives = self.archives().into_iter().map(|file| file.path);
        documents.map(|(path, _)| path).chain(archives).collect()
    }

    /// Returns whether clients must not get a file any more, because the key of its version is stolen.
    pub(crate) fn is_distrusted(&self, owner: &Owner) -> bool {
        let Owner::Provider { address, version: Some(version) } = owner else { return false };
        self.0
            .left_out
            .iter()
            .any(|out| out.distrusted.as_ref() == Some(address) && out.version == *version)
    }
}
