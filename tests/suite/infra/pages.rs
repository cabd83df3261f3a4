//! What the pages say of the modules' variables and outputs is what the modules have.
