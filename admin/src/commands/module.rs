//! `module`: publishes a version and lists modules, through the broker's API.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::process::ExitCode;

use serde::Deserialize;
use serde_json::json;
use stile_core::package::Version;
use stile_protocol::names::{ModuleAddress, Namespace, Permission};
use terraform_credentials_stile::config::Environment;
use terraform_credentials_stile::message::one_line;

use super::life::{self, Named};
use super::module_block::block;
use super::module_send::{Sent, patterns, pending, publish_archive, version_of};
use super::{
    CommandResult, Context, module_all, module_object, module_search, module_show, module_source,
    module_usage,
};
use crate::api::Api;
use crate::cli::{ModuleList, ModuleOne, ModulePublish, ModuleStatement, ModuleVerb};
use crate::error::CommandError;
use crate::fetch::download;
use crate::output::notice;
use crate::paged::pages;
use crate::progress::spinning;
use crate::source::{Source, is_url};
use crate::upload::Archive;

/// Runs one subcommand.
pub(crate) async fn run(context: &Context, verb: ModuleVerb) -> CommandResult {
    match verb {
        ModuleVerb::Publish(args) if args.several.all => module_all::run(context, &args).await?,
        ModuleVerb::Publish(args) => publish(context, &args).await?,
        ModuleVerb::List(args) => list(context, &args).await?,
        ModuleVerb::Search(args) => module_search::run(context, &args).await?,
        ModuleVerb::Show(args) => module_show::run(context, &args).await?,
        ModuleVerb::Usage(args) => module_usage::run(context, &args).await?,
        ModuleVerb::Deprecate(ModuleStatement { of, statement }) => {
            life::deprecate::<ModuleAddress>(context, named(&of), &statement).await?;
        }
        ModuleVerb::Undeprecate(of) => {
            life::undeprecate::<ModuleAddress>(context, named(&of)).await?;
        }
        ModuleVerb::Unpublish(ModuleStatement { of, statement }) => {
            let done = "unpublished";
            life::take_back::<ModuleAddress>(context, named(&of), &statement, done).await?;
        }
        ModuleVerb::Restore(of) => life::restore::<ModuleAddress>(context, named(&of)).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn named(of: &ModuleOne) -> Named<'_> {
    Named { address: &of.address, version: &of.version, api: &of.api }
}

async fn publish(context: &Context, args: &ModulePublish) -> Result<(), CommandError> {
    if let Some(source) = &args.source {
        return module_source::publish(context, args, source).await;
    }
    if let (Some(object), Some(sha256)) = (&args.object, &args.sha256) {
        return module_object::publish(context, args, object, sha256).await;
    }
    let (address, version, source) = what(&args.what)?;
    let patterns = patterns(&args.include)?;
    let open = async |environment: &Environment| match &source {
        Source::Path(path) => Archive::open(path, &patterns, &|text| notice(text)),
        Source::Url(url) => {
            let downloaded = download(url, environment).await?;
            Archive::downloaded(downloaded, &patterns, &|text| notice(text))
        }
    };
    if args.dry_run {
        return show(context, &address, &version, &open(&Environment::read()).await?);
    }
    // Without a registry there is no need to pack a folder.
    let api =
        Api::new(&args.api, Permission::Upload, Some(address.namespace.clone()), context.now)?;
    let archive = open(api.environment()).await?;
    let Sent { status, warnings } =
        publish_archive(context, &api, &address, &version, &archive).await?;
    for warning in &warnings {
        notice(warning);
    }
    let source = format!("{}/{address}", api.host());
    let block = block(&address, &source, &version);
    let json = json!({
        "status": status,
        "module": address.to_string(),
        "version": version.to_string(),
        "sha256": archive.sha256(),
        "skipped": archive.skipped(),
        "source": source,
        "warnings": warnings,
    });
    let sha256 = archive.sha256();
    let lines = format_args!("{status} {address} {version} (sha256:{sha256})\n\n{block}");
    context.output.outcome(lines, &json)
}

/// Parses `[ADDRESS VERSION] SOURCE`.
fn what(words: &[OsString]) -> Result<(ModuleAddress, Version, Source), CommandError> {
    let text = |word: &OsString| word.to_string_lossy().into_owned();
    // Errors about an address and a version show these words, and a URL can be a secret.
    if words.iter().rev().skip(1).any(|word| is_url(word)) {
        return Err(CommandError::usage("a URL can only be the source, which is the last word")
            .hint("write `ADDRESS VERSION SOURCE`"));
    }
    match words {
        [source] => {
            let source = Source::parse(source)?;
            let (address, version) = source.named()?;
            Ok((address, version, source))
        }
        [address, version, source] => {
            let address = text(address).parse()?;
            Ok((address, version_of(&text(version))?, Source::parse(source)?))
        }
        [_, _] => Err(CommandError::usage("the address, the version or the source is missing")
            .hint("write `ADDRESS VERSION SOURCE`")),
        _ => {
            Err(CommandError::usage("there are more words than an address, a version and a source")
                .hint("write `ADDRESS VERSION SOURCE`"))
        }
    }
}

/// Prints what `module publish` would send.
fn show(
    context: &Context,
    address: &ModuleAddress,
    version: &Version,
    archive: &Archive,
) -> Result<(), CommandError> {
    let (files, bytes, sha256) = (archive.files(), archive.bytes(), archive.sha256());
    let mut lines = format!(
        "would publish {address} {version} (sha256:{sha256}): {} files in {bytes} bytes",
        files.len()
    );
    for file in files {
        let _infallible = write!(lines, "\n{:>12}  {}", file.bytes, one_line(&file.path));
    }
    context.output.outcome(lines, &pending(address, version, archive))
}

/// One module in a list.
#[derive(Deserialize)]
struct Summary {
    namespace: String,
    name: String,
    provider: String,
    version: String,
    published_at: String,
}

/// The response to `…/versions`.
#[derive(Deserialize)]
struct Versions {
    modules: Vec<ModuleVersions>,
}

#[derive(Deserialize)]
struct ModuleVersions {
    versions: Vec<ModuleVersion>,
}

#[derive(Deserialize)]
struct ModuleVersion {
    version: String,
}

async fn list(context: &Context, args: &ModuleList) -> Result<(), CommandError> {
    let address = args
        .of
        .as_deref()
        .filter(|of| of.contains('/'))
        .map(str::parse::<ModuleAddress>)
        .transpose()?;
    if let Some(address) = address {
        let api = Api::new(
            &args.api,
            Permission::Download,
            Some(address.namespace.clone()),
            context.now,
        )?;
        let path = format!("/v1/modules/{address}/versions");
        let found: Versions = spinning("reading the versions", Box::pin(api.read(&path)))
            .await
            .map_err(|error| error.context(format_args!("`{address}`")))?;
        let versions: Vec<String> = found
            .modules
            .into_iter()
            .flat_map(|module| module.versions)
            .map(|version| version.version)
            .collect();
        let rows: Vec<_> =
            versions.iter().map(|version| vec![address.to_string(), version.clone()]).collect();
        let json = versions
            .iter()
            .map(|version| json!({ "module": address.to_string(), "version": version }))
            .collect::<Vec<_>>();
        return context.output.rows("versions", &["module", "version"], &rows, &json.into());
    }
    let namespace = args.of.as_deref().map(Namespace::parse).transpose()?;
    let path = namespace
        .as_ref()
        .map_or_else(|| "/v1/modules".to_owned(), |namespace| format!("/v1/modules/{namespace}"));
    let api = Api::new(&args.api, Permission::Download, namespace, context.now)?;
    let modules =
        spinning("reading the modules", Box::pin(pages::<Summary>(&api, &path, "modules"))).await?;
    let name =
        |module: &Summary| format!("{}/{}/{}", module.namespace, module.name, module.provider);
    let rows: Vec<_> = modules
        .iter()
        .map(|module| vec![name(module), module.version.clone(), module.published_at.clone()])
        .collect();
    let object = |module: &Summary| json!({ "module": name(module), "latest": module.version, "published_at": module.published_at });
    let json = modules.iter().map(object).collect::<Vec<_>>();
    context.output.rows("modules", &["module", "latest", "published at"], &rows, &json.into())
}
