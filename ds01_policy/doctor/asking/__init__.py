"""Gets facts for the doctor: each outside call has a timeout, and nothing is changed. Judges nothing."""
