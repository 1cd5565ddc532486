"""The audit pages: Streamlit and Altair, reading the catalog."""
