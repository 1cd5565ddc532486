"""Dashboard: web pages that show the logs of runs, made with Streamlit and Altair."""
