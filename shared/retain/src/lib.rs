//! Retention: which archived WAL may go, and letting it go.
//!
//! `plan` is pure: it decides from a list of facts what nobody needs any more. `Retention`
//! asks every guard first, then deletes by exact key, one repository beside the other.
//! Between the two lies nothing but the catalog, which is asked again right before each
//! deletion.
//!
//! What is absent: the archive directory, and any way to delete what the catalog does not
//! list. A history file cannot be expired here even by mistake: the plan leaves it out and
//! the catalog's statement refuses it.

mod bases;
mod explain;
mod inventory;
mod lineage;
mod plan;
mod policy;
mod verdict;

mod compare;
mod delete;
mod expire;
mod guards;
mod load;
mod mark;
mod reconcile;
mod repair;
mod report;
mod retention;
mod survey;
mod tell;

pub use explain::{Because, Reason, Warning};
pub use inventory::{Base, FileFacts, Inventory, Lies, RepositorySet, Status};
pub use lineage::{Lineage, Reach};
pub use plan::{BaseDeletion, Deletion, Kept, Plan, plan};
pub use policy::Policy;

pub use compare::{CompareError, Comparison, Difference, compare};
pub use guards::{Refusal, Untrusted};
pub use load::{LoadError, load};
pub use mark::{CatalogMark, MarkError};
pub use reconcile::{ReconcileError, Reconciled};
pub use repair::{RepairError, Repaired, repair};
pub use report::{Outcome, PrefixReport, Preview, Report, RepositoryReport, Skipped, Why};
pub use retention::{Consent, RetainError, Retention};
