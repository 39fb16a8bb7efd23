"""LangChain's OpenAI model against a box: one answer, one stream."""

import unittest

from langchain_openai import ChatOpenAI

from box import Box


class LangChain(unittest.TestCase):
    def test_invoke_and_stream(self):
        with Box() as box:
            model = ChatOpenAI(base_url=box.url + "/v1", api_key="none", model="", temperature=0, max_tokens=24, max_retries=0)
            whole = model.invoke("list all files").content
            self.assertTrue(whole)
            self.assertEqual(whole, "".join(chunk.content for chunk in model.stream("list all files")))


if __name__ == "__main__":
    unittest.main(verbosity=2)
