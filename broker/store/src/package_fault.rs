//! What a check of the packages of a store finds.

use stile_core::package::PackageAddress;

/// What is wrong with a package in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PackageFaultKind {
    /// This program cannot read the record of a version.
    UnreadableVersion,
    /// The archive of a version does not exist, or has another size.
    MissingArchive,
    /// This program cannot read the list of the package's versions.
    UnreadableList,
    /// The list does not have a version that is published.
    NotListed,
    /// The list has a version without a record.
    ListedWithoutRecord,
    /// The list has a version that is unpublished.
    ListedUnpublished,
    /// The list of a provider's versions says something else about one than its record and the
    /// signing keys say.
    WrongDescription,
    /// The list of all packages has another latest version, or another time of it.
    WrongLatest,
}

impl PackageFaultKind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::UnreadableVersion,
        Self::MissingArchive,
        Self::UnreadableList,
        Self::NotListed,
        Self::ListedWithoutRecord,
        Self::ListedUnpublished,
        Self::WrongDescription,
        Self::WrongLatest,
    ];

    /// Returns the name for programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnreadableVersion => "unreadable_version",
            Self::MissingArchive => "missing_archive",
            Self::UnreadableList => "unreadable_list",
            Self::NotListed => "not_listed",
            Self::ListedWithoutRecord => "listed_without_record",
            Self::ListedUnpublished => "listed_unpublished",
            Self::WrongDescription => "wrong_description",
            Self::WrongLatest => "wrong_latest",
        }
    }

    /// Returns the description for people.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::UnreadableVersion => "its record cannot be read",
            Self::MissingArchive => "its archive is missing, or has another size",
            Self::UnreadableList => "the list of versions cannot be read",
            Self::NotListed => "the list of versions does not have it",
            Self::ListedWithoutRecord => "the list of versions has it, and it has no record",
            Self::ListedUnpublished => "the list of versions has it, and it is unpublished",
            Self::WrongDescription => {
                "the list of versions has other platforms or warnings than the records"
            }
            Self::WrongLatest => "the list of packages has another latest version or time",
        }
    }

    /// Returns whether [`Store::relist`](crate::Store::relist) repairs it: the records of the
    /// versions say how the list must be.
    pub const fn is_of_the_list(self) -> bool {
        !matches!(self, Self::UnreadableVersion | Self::MissingArchive)
    }
}

/// The result of making the list of a package from the records of its versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relisted {
    /// The list is right now.
    Done,
    /// The list was right already: a writer has changed it in the meantime.
    Unchanged,
    /// A record, or the revision of the list, cannot be read. So the list stays.
    Unreadable,
    /// Most versions of the list have no record, so the records are probably lost. The list stays.
    RecordsLost,
    /// The list would be larger than the store can hold.
    TooLarge,
}

/// One fault of a package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackageFault {
    /// The version, if the fault is that of a version.
    pub version: Option<String>,
    /// What is wrong.
    pub kind: PackageFaultKind,
}

/// A package that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedPackage {
    /// The package.
    pub address: PackageAddress,
    /// The number of its versions.
    pub versions: usize,
    /// What is wrong with it.
    pub faults: Vec<PackageFault>,
}
