"""What the browser meets before Streamlit: routes that take forms and files, and the guards around every request.

Plain Starlette, without Streamlit, so that it can be tested and run without a page.
"""
